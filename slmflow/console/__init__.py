"""Terminal output: messages, progress bars, redaction of secrets."""
