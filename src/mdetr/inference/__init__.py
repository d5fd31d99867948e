"""Inference: `Mdetr` and its results."""
