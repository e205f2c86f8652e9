"""The API of the product, under /v1: operations, their models, and what they answer."""
