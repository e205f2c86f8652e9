"""The embedding networks, and the records of their spaces."""
