"""The operator's console in a browser: behind its token, drawn, and able to close a session."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import msgspec
import pytest
from playwright.sync_api import Browser, Page, expect

from threaded_server import ThreadedServer
from wireroom import operations
from wireroom.core import App, Context, Session
from wireroom.transports.clients.blocking import Client, connect

pytestmark = pytest.mark.chromium

expect.set_options(timeout=60_000)  # the machine may be busy

TOKEN = "a token of the tests' console"
CONTRASTS = (Path(__file__).parent / "browser" / "contrasts.js").read_text()


class Say(msgspec.Struct, tag_field="type", tag="say"):
    text: str


def console_app() -> App:
    app = App()
    operations.install(app, console_token=TOKEN)
    talk = app.module("/talk")

    @talk.on_open
    def enter(session: Session) -> None:
        session.join("hall")

    @talk.handler
    def say(ctx: Context, data: Say) -> bool:
        ctx.room("hall").broadcast(data)
        return True

    return app


@pytest.fixture
def server() -> Iterator[ThreadedServer]:
    server = ThreadedServer(console_app())
    server.start()
    yield server
    server.stop()


@pytest.fixture
def page(browser: Browser, server: ThreadedServer) -> Iterator[Page]:
    errors: list[str] = []
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    page.goto(f"http://127.0.0.1:{server.port}/console")
    yield page
    context.close()
    assert errors == []


def enter(page: Page) -> None:
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_role("button", name="Open").click()
    expect(page.locator("#version")).not_to_be_empty()


def talk(server: ThreadedServer) -> AbstractContextManager[Client]:
    return connect(f"ws://127.0.0.1:{server.port}/talk")


def test_a_wrong_token_shows_nothing(page: Page) -> None:
    page.get_by_label("Token").fill("a token of somebody else")
    page.get_by_role("button", name="Open").click()
    expect(page.get_by_role("alert").first).to_have_text("This is not the token.")
    expect(page.locator("#console")).to_be_hidden()
    enter(page)
    page.reload()
    expect(page.locator("#version")).not_to_be_empty()
    page.get_by_role("button", name="Log out").click()
    page.reload()
    expect(page.get_by_label("Token")).to_be_focused()


def test_a_link_may_bring_the_token(page: Page, server: ThreadedServer) -> None:
    page.goto("about:blank")
    page.goto(f"http://127.0.0.1:{server.port}/console#token={TOKEN.replace(' ', '%20')}")
    expect(page.locator("#version")).not_to_be_empty()
    expect(page).to_have_url(f"http://127.0.0.1:{server.port}/console")


def test_what_happens_is_drawn(page: Page, server: ThreadedServer) -> None:
    enter(page)
    with talk(server) as ann, talk(server) as bob:
        for n in range(20):
            ann.request({"type": "say", "text": str(n)}, timeout_s=60)
        tile = page.locator(".tile", has_text="Sessions")
        expect(tile.locator(".value")).to_have_text("3")
        expect(page.locator("#rooms .bar")).to_contain_text(["hall2 in /talk"])
        expect(page.locator("#latency-facts")).to_contain_text("messages · mean")
        expect(page.locator("#latency-chart rect.column").first).to_be_attached()
        expect(page.locator("#messages-chart path.line")).to_have_count(2)
        expect(page.locator("#handlers")).to_contain_text("say")
        expect(page.locator("#sessions tr")).to_have_count(3)
        bob.close(1001)
    expect(page.locator("#closes")).to_contain_text("1001 going away, by the peer")
    expect(page.locator("#sessions tr")).to_have_count(1)


def test_a_session_is_found_and_closed(page: Page, server: ThreadedServer) -> None:
    enter(page)
    with talk(server) as ann:
        page.get_by_label("Search sessions").fill("hall")
        expect(page.locator("#sessions tr")).to_have_count(1)
        expect(page.locator("#sessions-total")).to_have_text("2, 1 match")
        page.get_by_role("button", name="Close session").click()
        page.get_by_label("Close code").select_option("1012")
        page.get_by_label("Reason").fill("maintenance")
        page.get_by_role("button", name="Close the session").click()
        expect(page.locator("#kick")).to_be_hidden()
        assert ann.receive(timeout_s=60) is None
        assert (ann.close_code, ann.close_reason) == (1012, "maintenance")
    expect(page.locator("#closes")).to_contain_text("1012 service restart, by us")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_names_and_contrasts(page: Page, server: ThreadedServer, width: int, scheme: str) -> None:
    """As for the chat's page: every control has a name, every text enough contrast."""
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme="light" if scheme == "light" else "dark")
    enter(page)
    with talk(server) as ann:
        ann.request({"type": "say", "text": "x"}, timeout_s=60)
        expect(page.locator("#sessions tr")).to_have_count(2)
        report = page.evaluate(CONTRASTS)
    assert report["nameless"] == []
    assert report["faint"] == []
    assert report["texts"] > 50
    assert report["overflow"] <= 0
