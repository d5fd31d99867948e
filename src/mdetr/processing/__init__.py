"""Processing: between the model's tensors and the data of people, files and tools."""
