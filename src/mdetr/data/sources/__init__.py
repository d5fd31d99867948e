"""Readers of data sets, one file each: original files in, records out."""
