"""Checks of what slmflow is made of."""
