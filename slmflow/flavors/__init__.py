"""Logging of both MLflow flavors: signatures, pins, provenance."""
