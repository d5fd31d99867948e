"""Using a model: images and texts in, results for people out."""
