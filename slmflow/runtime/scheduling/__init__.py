"""Batch concurrent requests."""
