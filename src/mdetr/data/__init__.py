"""Data: readers of data sets, records, stores, examples and batches."""
