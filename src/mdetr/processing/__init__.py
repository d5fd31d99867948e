"""Between the tensors of a model and what people, files and other tools hold."""
