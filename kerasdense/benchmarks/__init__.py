"""All measuring of speed and memory."""
