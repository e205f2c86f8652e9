"""The formats of photos, a module each: the reader of its headers and its decoder."""
