"""Compare what is served with what was measured when the version was registered."""
