"""What the tests over real sockets share: loops to run on, and a browser."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest
import uvloop
from playwright.sync_api import Browser, sync_playwright

from loops import RunLoop

TEST_TIMEOUT_S = 120.0  # a test that takes this long hangs


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> RunLoop:
    """Runs a coroutine on asyncio's loop, and on uvloop's."""

    def run_on_loop(main: Coroutine[Any, Any, None]) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(TEST_TIMEOUT_S):
                await main

        factory = uvloop.new_event_loop if request.param == "uvloop" else None
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(bounded())

    return run_on_loop


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Headless Chromium; skips where it is not installed.

    Not for the whole session: while it is open, its driver has a loop running in this thread.
    """
    executable = shutil.which("chromium") or shutil.which("chromium-browser")
    if executable is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    arguments = [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
    ]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=executable, args=arguments, timeout=1000 * TEST_TIMEOUT_S
        )
        yield browser
        browser.close()
