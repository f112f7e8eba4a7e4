"""Models for the benchmarks: random weights, and what is built from them."""
