"""Types, errors and matching rules: pure, without I/O and without HTTP words."""
