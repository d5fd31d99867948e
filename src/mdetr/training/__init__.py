"""Training: a recipe in, a run's folder with a model out."""
