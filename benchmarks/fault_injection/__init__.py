"""Killing of steps at random moments, and the checks afterwards."""
