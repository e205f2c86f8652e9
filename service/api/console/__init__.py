"""The console: its pages, and the sessions of the people who use them."""
