"""Weights, the networks that they fill, and their conversion to ONNX graphs."""
