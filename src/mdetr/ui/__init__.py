"""Visualization of results."""
