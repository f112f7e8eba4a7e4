"""The library behind the steps: it converts, logs, measures, compares, registers and serves."""
