"""Ask the models every row, and keep what they answer and what it costs."""
