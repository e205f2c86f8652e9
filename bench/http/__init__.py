"""Benches of the running service over HTTP."""
