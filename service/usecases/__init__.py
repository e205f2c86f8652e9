"""What the product does, and the ports it needs for it."""
