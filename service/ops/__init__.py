"""What an operator runs beside the service: a look at its health, tenants taken out and in."""
