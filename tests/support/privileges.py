"""Tests of missing permissions, which root has all of."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager

_NOBODY = 65534


@contextmanager
def unprivileged() -> Generator[None, None, None]:
    """As a user who is not root, and owns nothing if the tests run as root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(_NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
