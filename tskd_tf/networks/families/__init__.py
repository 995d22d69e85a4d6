"""Families of students: what a teacher's network becomes at a rate."""
