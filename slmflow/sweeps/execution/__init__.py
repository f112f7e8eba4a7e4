"""Running the points of a sweep: search, launchers, workers, shared measurements, progress."""
