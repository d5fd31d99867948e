"""A world of shapes: random scenes, their pictures, and true sentences about them, in CLEVR's file layout."""
