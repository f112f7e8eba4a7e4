"""Serve a logged model: OpenAI's addresses, MLflow's, metrics and traces."""
