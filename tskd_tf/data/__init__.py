"""Images, splits, sources, views, and the task."""
