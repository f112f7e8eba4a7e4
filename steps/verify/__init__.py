"""Check a logged model against what was recorded of it."""
