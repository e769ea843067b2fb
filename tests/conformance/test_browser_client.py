"""wireroom.js with a real server: under Node's own WebSocket, and in Chromium."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from browser_app import browser_app
from node import run_tests
from threaded_server import ThreadedServer

SCENARIOS = Path(__file__).parent / "browser"

RUN_ALL = """async () => {
    const { Client } = await import("/wireroom.js");
    const { scenarios } = await import("/scenarios.mjs");
    const outcomes = {};
    for (const [name, run] of Object.entries(scenarios(Client, location.href))) {
        try {
            await run();
            outcomes[name] = "passed";
        } catch (error) {
            outcomes[name] = `${error} ${error.stack}`;
        }
    }
    return outcomes;
}"""


@pytest.fixture
def server() -> Iterator[ThreadedServer]:
    server = ThreadedServer(browser_app())
    server.start()
    yield server
    server.stop()


@pytest.mark.node
def test_under_nodes_own_websocket(server: ThreadedServer) -> None:
    run_tests(
        SCENARIOS / "live.test.mjs",
        {"WIREROOM_URL": f"ws://127.0.0.1:{server.port}/"},
    )


@pytest.mark.chromium
def test_in_chromium(browser: Browser, server: ThreadedServer) -> None:
    page = browser.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(f"http://127.0.0.1:{server.port}/")
    outcomes = page.evaluate(RUN_ALL)
    page.close()
    assert set(outcomes.values()) == {"passed"}, outcomes
    assert len(outcomes) >= 10
    assert errors == []
