"""Visualization: boxes, masks and phrases drawn on images."""
