"""Files on disk to TFDS builders (`sources`), and builders to batches (`pipeline`)."""
