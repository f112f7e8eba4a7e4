"""Clients and loads for a served model."""
