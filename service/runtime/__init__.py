"""Exported models and the ONNX Runtime sessions that run them."""
