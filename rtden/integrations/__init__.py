"""Adapters to frameworks for voice agents; each is imported by its users alone."""
