"""Coverage-guided fuzzing of the parsers with `make fuzz`, apart from the tests."""
