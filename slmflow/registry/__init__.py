"""Register models: the ranking of flavors, the gate, the champion, and versions with their tags."""
