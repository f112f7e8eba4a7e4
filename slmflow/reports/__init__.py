"""Tables, plots, HTML and Markdown of a comparison."""
