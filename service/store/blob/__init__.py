"""The bytes of photos, in a folder or a bucket."""
