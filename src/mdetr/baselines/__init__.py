"""Baseline detectors of the paper's few-shot table."""
