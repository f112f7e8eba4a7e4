"""The whole workflow."""
