"""What every step shares: typed config, keys, the store, runs, and the console."""
