"""A serving process: connections, signals, its end; several of them under a supervisor."""
