"""The contract: OpenAPI 3.1 made of the lists of operations, and the pages that show it."""
