"""Benches of the models and the analysis within one process."""
