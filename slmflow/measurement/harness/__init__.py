"""Tasks of lm-evaluation-harness, run on loaded models."""
