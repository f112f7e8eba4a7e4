"""The sections of the config: their keys, types, defaults and validation."""
