"""A model folder: which files it has, whether they are valid, and how to read its weights."""
