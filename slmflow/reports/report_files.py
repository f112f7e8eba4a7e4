"""The names of the report's artifacts."""

MARKDOWN = "comparison.md"
HTML = "comparison.html"
PNG = "comparison.png"
