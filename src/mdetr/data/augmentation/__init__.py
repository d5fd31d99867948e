"""Augmentation of images together with their records."""
