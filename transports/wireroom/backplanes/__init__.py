"""Backplanes: what makes several servers one. `Backplane` is all that one has to be.

Server(app, backplane=RedisBackplane("redis://localhost"))
"""

from __future__ import annotations

from .link import Backplane, Link

__all__ = ["Backplane", "Link"]
