"""Images, faces and clusters: stored, matched, read, indexed."""
