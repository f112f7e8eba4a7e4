"""Generate completions: sampling, text, options, and the engine on ONNX Runtime GenAI."""
