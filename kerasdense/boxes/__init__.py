"""Boxes: geometry, SSD's anchors, suppression. Knows no model."""
