"""Benches: what Facette does in a second, next to what the bare model sessions could do."""
