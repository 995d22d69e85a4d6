"""Layers of our own that students may have."""
