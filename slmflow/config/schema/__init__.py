"""The sections of the config: what each may hold, and which values are refused."""
