"""The search for near faces, measured beside a plain index and exact search."""
