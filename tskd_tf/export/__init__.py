"""Files to deploy, one module per format; each file is judged and timed."""
