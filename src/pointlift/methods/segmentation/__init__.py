"""Segmentation: a label for every point."""
