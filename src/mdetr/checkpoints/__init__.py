"""Checkpoints: the released files, and loading any model by its name."""
