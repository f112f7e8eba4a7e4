"""Checks of a logged model against its recorded provenance."""
