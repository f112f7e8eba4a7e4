"""Convert weights to an ONNX model for a target."""
