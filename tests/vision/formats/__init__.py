"""Tests of the formats of photos."""
