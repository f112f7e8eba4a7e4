"""Answers to a file of rows, in this process or on Spark."""
