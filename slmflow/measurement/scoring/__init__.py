"""Likelihoods of texts, in batches that read shared prefixes once."""
