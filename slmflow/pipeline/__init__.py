"""Steps, their results and keys, MLflow runs, and the store of large files."""
