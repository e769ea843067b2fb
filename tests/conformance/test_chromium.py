"""The chat page in a real browser: two tabs talk, one server is restarted, nothing is broken."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from examples import load_example
from wireroom.core import App
from wireroom.transports.asyncio import Server, serve

pytestmark = pytest.mark.chromium


class ThreadedServer:
    """The server in a thread of its own, since the browser's driver blocks this one."""

    def __init__(self, app: App, port: int = 0) -> None:
        self._listening = threading.Event()
        self._server: Server | None = None
        self._app = app
        self.port = port
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        def ready(server: Server) -> None:
            self._server = server
            self.port = server.addresses[0][1]
            self._listening.set()

        asyncio.run(serve(self._app, "127.0.0.1", self.port, on_ready=ready, grace_s=1.0))

    def start(self) -> None:
        self._thread.start()
        assert self._listening.wait(10)

    def stop(self) -> None:
        assert self._server is not None
        self._server.loop.call_soon_threadsafe(self._server.stop)
        self._thread.join(10)
        assert not self._thread.is_alive()


@pytest.fixture
def server() -> Iterator[ThreadedServer]:
    server = ThreadedServer(load_example("chat").make_app())
    server.start()
    yield server
    server.stop()


def open_tab(browser: Browser, port: int, name: str) -> Page:
    page = browser.new_page(viewport={"width": 420, "height": 640})
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(f"http://127.0.0.1:{port}/?name={name}")
    expect(page.locator("#status")).to_contain_text("in room lobby")
    assert errors == []
    return page


def say(page: Page, text: str) -> None:
    page.fill("#text", text)
    page.press("#text", "Enter")


def test_two_tabs_chat_in_a_room(browser: Browser, server: ThreadedServer, tmp_path: Path) -> None:
    ann = open_tab(browser, server.port, "Ann")
    bob = open_tab(browser, server.port, "Bob")
    expect(ann.locator("#status")).to_have_text("in room lobby, 2 here")
    say(ann, "hello <b>Bob</b>")
    expect(bob.locator("main .theirs")).to_have_text("Annhello <b>Bob</b>")
    say(bob, "hello Ann")
    expect(ann.locator("main .theirs")).to_have_text("Bobhello Ann")
    expect(ann.locator("main .mine")).to_have_text("Annhello <b>Bob</b>")
    ann.screenshot(path=tmp_path / "chat.png")
    bob.close()
    expect(ann.locator("#status")).to_have_text("in room lobby, 1 here")
    ann.close()


def test_other_rooms_hear_nothing(browser: Browser, server: ThreadedServer) -> None:
    ann = open_tab(browser, server.port, "Ann")
    bob = open_tab(browser, server.port, "Bob")
    bob.fill("#room", "attic")
    bob.press("#room", "Enter")
    expect(bob.locator("#status")).to_have_text("in room attic, 1 here")
    say(ann, "only the lobby hears this")
    say(bob, "only the attic hears this")
    expect(bob.locator("main .mine")).to_have_count(1)
    expect(bob.locator("main .theirs")).to_have_count(0)
    expect(ann.locator("main .theirs")).to_have_count(0)
    ann.close()
    bob.close()


def test_a_wrong_message_is_answered_with_the_field(
    browser: Browser, server: ThreadedServer
) -> None:
    page = open_tab(browser, server.port, "Ann")
    answer = page.evaluate(
        """() => new Promise((done) => {
            const socket = new WebSocket(`ws://${location.host}/chat/x`);
            socket.onopen = () => socket.send('{"type": "chat_message", "name": "", "text": "x"}');
            socket.onmessage = (event) => {
                const message = JSON.parse(event.data);
                if (message.type === "error") { done(message); socket.close(); }
            };
        })"""
    )
    assert answer["code"] == "invalid_data"
    assert answer["field"] == "name"
    page.close()


def test_the_page_reconnects_after_a_restart(browser: Browser) -> None:
    chat = load_example("chat")
    first = ThreadedServer(chat.make_app())
    first.start()
    page = open_tab(browser, first.port, "Ann")
    first.stop()
    expect(page.locator("#status")).to_contain_text("connection lost (1001)")
    second = ThreadedServer(chat.make_app(), first.port)
    second.start()
    expect(page.locator("#status")).to_have_text("in room lobby, 1 here", timeout=15_000)
    page.close()
    second.stop()
