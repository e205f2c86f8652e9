"""Connections, roles, migrations and named statements."""
