"""Telling systemd how it is: sd_notify(3), for `Type=notify` units."""

from __future__ import annotations

import os
import socket
from contextlib import suppress

_PATH: str | None = None


def take_notify_socket() -> None:
    """Remember where to tell it, and keep it from child processes. To be called first."""
    global _PATH  # noqa: PLW0603 # a setting of the process, as the variable is
    _PATH = os.environ.pop("NOTIFY_SOCKET", None)


def notify(state: str) -> None:
    """Tell it, as `READY=1`; nothing if this is no such unit, or nobody listens."""
    if _PATH is None:
        return
    address = "\0" + _PATH[1:] if _PATH.startswith("@") else _PATH
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(state.encode(), address)
