"""Networks by name, for use as teachers."""
