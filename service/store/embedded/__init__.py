"""The PostgreSQL that the service brings along."""
