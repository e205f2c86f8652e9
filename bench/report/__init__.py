"""The tracked history, and the pages, tables and plots rendered from it."""
