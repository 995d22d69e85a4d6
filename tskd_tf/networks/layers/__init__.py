"""Layers of this package, and the kinds of convolution of students."""
