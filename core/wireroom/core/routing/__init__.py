"""Paths to modules, once a connection: at its request."""
