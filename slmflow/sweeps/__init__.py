"""Many points of the configuration under one parent run."""
