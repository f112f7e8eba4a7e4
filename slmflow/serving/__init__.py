"""An OpenAI-compatible server for a logged model."""
