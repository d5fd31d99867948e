"""Composition of texts about the named boxes of an image."""
