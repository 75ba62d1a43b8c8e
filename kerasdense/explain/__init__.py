"""What a network has learned and where it looks, by gradients to the images."""
