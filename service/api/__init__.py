"""HTTP: authentication, limits, the error table, parameters and routes."""
