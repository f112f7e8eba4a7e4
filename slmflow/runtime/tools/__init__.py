"""Tools: what a request declares, how a model calls them, and how calls are found and enforced."""
