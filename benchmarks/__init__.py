"""Benchmarks of conversion, speed, quantization, serving, batch jobs and sweeps."""
