"""Metrics, one file a task: `update(...)` with each batch, then `compute()`."""

from mdetr.evaluation.metrics.contract import Metric
from mdetr.evaluation.metrics.registry import METRICS, make_metric

__all__ = ["METRICS", "Metric", "make_metric"]
