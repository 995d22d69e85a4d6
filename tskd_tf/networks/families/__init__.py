"""Families of students: ways to make a student of a teacher at a given rate."""
