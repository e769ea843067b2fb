"""The conformance suite over every transport of ours."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harnesses import (
    BlockingHarness,
    LoopHarness,
    run_anyio_asyncio,
    run_anyio_trio,
    run_asyncio,
    run_uvloop,
    run_without_epoll,
)
from wireroom.transports.anyio import Server as AnyioServer
from wireroom.transports.asyncio import Server as AsyncioServer
from wireroom.transports.conformance import Harness, Suite

HARNESSES: dict[str, Callable[[], Harness]] = {
    "asyncio": lambda: LoopHarness(AsyncioServer, run_asyncio),
    "asyncio-no-epoll": lambda: LoopHarness(AsyncioServer, run_without_epoll),
    "uvloop": lambda: LoopHarness(AsyncioServer, run_uvloop),
    "anyio-asyncio": lambda: LoopHarness(AnyioServer, run_anyio_asyncio),
    "anyio-trio": lambda: LoopHarness(AnyioServer, run_anyio_trio),
    "blocking": BlockingHarness,
}


class TestOurTransports(Suite):
    """All behaviours, each on all transports."""

    @pytest.fixture(params=HARNESSES)
    def harness(self, request: pytest.FixtureRequest) -> Harness:
        return HARNESSES[request.param]()
