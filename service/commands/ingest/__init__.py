"""`facette ingest`: the photos of folders, each sent once, as fast as a service takes them."""
