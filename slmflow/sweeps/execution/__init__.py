"""Running the points of a sweep: launchers, workers, progress."""
