"""Archives of tenants: export, strict reading, import."""
