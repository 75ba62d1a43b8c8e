"""What is measured: mean IoU from a confusion matrix, average precision; the ignore label."""
