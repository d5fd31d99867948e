"""Original files in; records, stores, examples and batches out."""
