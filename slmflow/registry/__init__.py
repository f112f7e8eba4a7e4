"""The gate, the ranking, and versions of registered models."""
