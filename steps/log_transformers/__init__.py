"""Log the transformers pipeline as an MLflow model."""
