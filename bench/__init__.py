"""Benches: rates of Facette next to those of the bare model sessions and of other programs."""
