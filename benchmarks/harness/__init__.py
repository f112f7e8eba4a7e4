"""Runs and times engines and child processes."""
