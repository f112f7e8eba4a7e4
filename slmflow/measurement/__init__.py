"""Answers, timings and likelihoods of logged models."""
