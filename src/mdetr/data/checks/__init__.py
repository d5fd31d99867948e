"""Checks of data for problems that affect training."""
