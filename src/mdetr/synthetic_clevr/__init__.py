"""Synthetic CLEVR: random scenes with their pictures, captions and questions, in CLEVR's file layout."""
