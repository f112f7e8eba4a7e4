"""From token ids to an answer."""
