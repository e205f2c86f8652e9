"""A tenant as one file: written, read with suspicion, imported."""
