"""PostgreSQL with pgvector, and the blob store: the one source of truth."""
