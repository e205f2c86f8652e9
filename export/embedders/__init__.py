"""The embedding networks that can be exported, and what is recorded of their spaces."""
