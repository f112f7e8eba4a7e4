"""Reports on a comparison: HTML, Markdown, plots, the run's description and the terminal."""
