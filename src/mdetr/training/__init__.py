"""Training: recipes, the loop, checkpoints and reports."""
