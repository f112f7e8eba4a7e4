"""Downloads from the Hugging Face hub at pinned revisions."""
