"""Networks by name, as teachers."""
