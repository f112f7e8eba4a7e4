"""Measure both flavors on the same rows."""
