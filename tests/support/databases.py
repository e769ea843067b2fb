"""The databases that the chat's store is tested on, and a store for a test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from postgresql import MISSING, PrivatePostgreSQL, find_program

SQLITE = "sqlite"
POSTGRESQL = pytest.param("postgresql", marks=pytest.mark.servers)


def postgresql_server() -> Iterator[PrivatePostgreSQL]:
    """What a fixture yields: a running server, or a skip that says what to install."""
    if find_program("postgres") is None or find_program("initdb") is None:
        pytest.skip(MISSING)
    server = PrivatePostgreSQL()
    try:
        server.start()
        yield server
    finally:
        server.remove()


def sqlite_url(folder: Path) -> str:
    """A database file that is not there yet."""
    return f"sqlite:///{folder / 'chat.sqlite3'}"
