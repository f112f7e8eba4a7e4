"""Running and timing of engines and processes."""
