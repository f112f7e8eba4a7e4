"""Block-wise quantization of the weights of an ONNX graph."""
