"""Tables and plots of benchmark results."""
