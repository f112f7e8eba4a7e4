"""Plots and tables of a sweep."""
