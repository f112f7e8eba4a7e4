"""The bundled offline model, its training script and evaluation questions, and neutral text."""
