"""Batch jobs: run a model over a file of rows, in this process or on Spark."""
