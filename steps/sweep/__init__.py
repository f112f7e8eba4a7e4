"""Many points of the config, measured under one parent run, and the best of them."""
