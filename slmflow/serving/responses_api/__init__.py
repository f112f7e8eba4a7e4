"""OpenAI's /v1/responses: its requests as those of /v1/chat/completions, and its answers."""
