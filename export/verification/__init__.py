"""Whether an exported graph computes what its PyTorch module computes."""
