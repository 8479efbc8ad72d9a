"""Recordings: reading, writing, folders."""
