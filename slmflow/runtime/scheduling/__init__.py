"""Batching of concurrent requests."""
