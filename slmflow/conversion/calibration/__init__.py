"""Quantization that is calibrated on text: rounding with error feedback, and mixed precision."""
