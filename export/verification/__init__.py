"""Comparison of an exported graph with its PyTorch module."""
