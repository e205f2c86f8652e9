"""`python -m bench console`: the pages of the console, in a real browser."""
