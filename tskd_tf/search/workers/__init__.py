"""A search in several processes: the chief, its workers, and their shared files."""
