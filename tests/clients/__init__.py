"""Real clients of OpenAI's API against the server: `make test-clients`."""
