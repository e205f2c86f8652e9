"""The embedded PostgreSQL, which runs where no database is configured."""
