"""Pictures of label maps, boxes and results, and charts."""
