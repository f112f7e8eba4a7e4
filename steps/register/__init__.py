"""Register the better flavor."""
