"""Blocking handlers that do not return in time: a loop's end does not wait for their threads."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable

import pytest

from harnesses import (
    LoopHarness,
    Main,
    run_anyio_asyncio,
    run_anyio_trio,
    run_asyncio,
    run_uvloop,
)
from wireroom.core import App, Session, blocking
from wireroom.transports.anyio import Server as AnyioServer
from wireroom.transports.asyncio import Server as AsyncioServer
from wireroom.transports.conformance import Options
from wireroom.transports.conformance.blocking_handlers import Gate
from wireroom.transports.conformance.client import PATIENCE_S, Client


@pytest.mark.parametrize(
    ("server", "run"),
    [
        (AsyncioServer, run_asyncio),
        (AsyncioServer, run_uvloop),
        (AnyioServer, run_anyio_asyncio),
        (AnyioServer, run_anyio_trio),
    ],
    ids=["asyncio", "uvloop", "anyio-asyncio", "anyio-trio"],
)
def test_a_stuck_blocking_handler_does_not_hold_up_the_end(
    server: type[AsyncioServer] | type[AnyioServer],
    run: Callable[[Main], None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("wireroom.transports.threads._IDLE_S", 0.01)
    app = App()
    gate = Gate()
    ends: list[threading.Thread] = []

    @app.module("/").on_message
    @blocking
    def stuck(session: Session, message: str) -> str:
        ends.append(threading.current_thread())
        gate.wait()
        session.send("nobody hears this")  # the hub has ended
        return "nor this"

    harness = LoopHarness(server, run)
    address = harness.start(app, Options(grace_s=0.1))
    with Client.connect(address).handshake("/") as client:
        client.send("go")
        gate.reached()
        report = harness.stop()
        assert (report.aborted, report.unfinished) == (1, 1)
        gate.open()
    ends[0].join(PATIENCE_S)
    assert not ends[0].is_alive()
    gc.collect()  # a coroutine that was never awaited would warn
    assert [each.getMessage() for each in caplog.records if each.exc_info] == []
