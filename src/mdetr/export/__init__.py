"""Export of models to ONNX and OpenVINO, and the running of exported models."""
