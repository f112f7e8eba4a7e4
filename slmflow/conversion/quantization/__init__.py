"""Block-wise weight quantization of the ONNX graph."""
