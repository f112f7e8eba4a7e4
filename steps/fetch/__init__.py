"""Bring weights into the store."""
