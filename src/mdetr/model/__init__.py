"""The model: tensors in, tensors out. It knows no files, no data sets and no metrics."""

MODEL_TYPE = "mdetr"  # what the configurations of our models say in their files
