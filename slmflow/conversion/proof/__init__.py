"""Checks of a converted model against the reference: exact proof, parity, tokenization."""
