"""A search by several processes: the chief, its workers, what they share."""
