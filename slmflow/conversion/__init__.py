"""From a checkpoint to an ONNX model: export, graph passes, quantization, proof."""
