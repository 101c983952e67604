"""Requests, plans and the life of containers."""
