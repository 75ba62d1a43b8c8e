"""From a prepared dataset to batches: `augment` changes samples, `pipeline` orders the steps."""
