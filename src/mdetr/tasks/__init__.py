"""Tasks: the model's output and records in, the scores of the task's own protocol out."""

from mdetr.tasks.registry import SCORERS, Scorer, make_scorer

__all__ = ["SCORERS", "Scorer", "make_scorer"]
