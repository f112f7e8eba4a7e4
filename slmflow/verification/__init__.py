"""Verify a logged model: its files, their origin, and its signature."""
