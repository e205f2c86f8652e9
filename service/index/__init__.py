"""The in-memory index of binary codes: arrays in, ids out, no SQL."""
