"""The figures of a report, as PNG files."""
