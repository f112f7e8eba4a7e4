"""Convert a checkpoint to ONNX: export, graph passes, quantization, proof and parity."""
