"""Answer a file of rows with a logged model: entry point `batch`."""
