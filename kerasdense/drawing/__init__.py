"""Pictures of label maps, boxes and heat, and charts of results."""
