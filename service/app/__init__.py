"""The composition root: makes a running service of a configuration, and reloads it."""
