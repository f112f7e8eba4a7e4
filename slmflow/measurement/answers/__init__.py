"""Answers of a loaded model: one request at a time, or many rows together."""
