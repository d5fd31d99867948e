"""Processing: converts images and texts to the model's tensors, and its output to detections."""
