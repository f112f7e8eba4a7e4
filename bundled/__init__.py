"""The bundled offline model: a tiny Phi-3, its training script and its evaluation questions."""
