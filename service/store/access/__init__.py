"""Access keys: their rows, the master secret beside them, and what is known of both meanwhile."""
