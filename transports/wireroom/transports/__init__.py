"""Transports: what moves bytes between a hub and the world. Each is a thin file of its own."""
