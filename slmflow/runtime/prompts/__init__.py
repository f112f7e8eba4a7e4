"""Turn messages into token ids."""
