"""Keras models: reading a graph, rebuilding, thinning, counting."""
