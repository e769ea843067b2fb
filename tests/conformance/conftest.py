"""What the tests over real sockets share: loops to run on, certificates, and a browser."""

from __future__ import annotations

import shutil
import ssl
from collections.abc import Iterator

import pytest
import trustme
from playwright.sync_api import Browser, sync_playwright

from loops import LOOPS, TEST_TIMEOUT_S, RunLoop, run_on


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> RunLoop:
    """Runs a coroutine on asyncio's loop, and on uvloop's."""
    return run_on(LOOPS[request.param])


@pytest.fixture(scope="module")
def certificates() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's context, and that of a client which trusts it."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    return context, trusting


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
