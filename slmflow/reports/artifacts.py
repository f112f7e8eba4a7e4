"""The names of the report's artifacts."""

PAGE = "comparison.html"
REPORT = ("comparison.md", PAGE, "comparison.png")
"""The artifacts for people; `comparison.json` has the metrics."""
