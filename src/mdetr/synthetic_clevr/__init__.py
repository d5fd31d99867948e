"""Synthetic CLEVR: random scenes with their images, captions and questions, in CLEVR's file layout."""
