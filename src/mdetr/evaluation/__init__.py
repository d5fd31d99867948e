"""Evaluation: metrics of each task's own protocol, scores of each example, and files for test servers."""
