"""Accuracy: parity with facenet-pytorch photo by photo, and clusters of thousands of people."""
