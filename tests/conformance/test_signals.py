"""Signals that come as soon as a server says that it is ready, on every transport."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from wireroom.core import App
from wireroom.transports import anyio, asyncio, blocking

RUN: dict[str, Callable[..., Any]] = {
    "asyncio": asyncio.run,
    "uvloop": partial(asyncio.run, uvloop=True),
    "anyio-asyncio": anyio.run,
    "anyio-trio": partial(anyio.run, backend="trio"),
    "blocking": blocking.serve,
}


@pytest.mark.parametrize("transport", RUN)
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_from_when_it_is_ready(transport: str, sent: signal.Signals) -> None:
    def send(server: object) -> None:
        os.kill(os.getpid(), sent)

    before = signal.getsignal(sent)
    report = RUN[transport](App(), port=0, on_ready=send)
    assert (report.closed, report.aborted) == (0, 0)
    assert signal.getsignal(sent) is before
