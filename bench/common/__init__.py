"""Shared by benches: the parts under measurement, photos, people, results, the machine."""
