"""Measure logged models: their answers, timings and likelihoods."""
