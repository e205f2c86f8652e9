"""Serving processes: connections, signals and shutdown, and their supervisor."""
