"""Evaluation rows: readers, validation, multiple-choice prompts."""
