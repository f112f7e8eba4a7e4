"""Kill steps at random moments and check what they leave behind."""
