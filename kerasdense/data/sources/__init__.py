"""One TFDS builder a file."""
