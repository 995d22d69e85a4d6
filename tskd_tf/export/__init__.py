"""Files to deploy: a module a format, each judged and timed."""
