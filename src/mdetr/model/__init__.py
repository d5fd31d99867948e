"""The model: tensors in, tensors out. It knows no files, no data sets and no metrics."""
