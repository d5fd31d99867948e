"""Data set formats that labels are written in."""
