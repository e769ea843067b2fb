"""The chat's page in a browser: people talk, a server restarts, nothing is missed or broken."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, expect

from chat_clients import PASSWORD, chat_app
from databases import sqlite_url
from ports import reserved_ports
from server import close_store
from threaded_server import ThreadedServer

pytestmark = pytest.mark.chromium

NARROW = {"width": 390, "height": 780}
WIDE = {"width": 1280, "height": 800}

expect.set_options(timeout=60_000)  # the machine may be busy

CONTRASTS = (Path(__file__).parent / "browser" / "contrasts.js").read_text()


class Chat:
    """A chat server that can be restarted, and the pages that are open on it."""

    def __init__(self, browser: Browser, folder: Path) -> None:
        self._browser = browser
        self._url = sqlite_url(folder)
        self.errors: list[str] = []
        self._kept = ExitStack()
        (self.port,) = self._kept.enter_context(reserved_ports())  # also while it is stopped
        self.start()

    def start(self, **settings: Any) -> None:
        self._server = ThreadedServer(chat_app(self._url, **settings), self.port)
        self._server.start()

    def stop(self) -> None:
        hub = self._server.call(lambda hub: hub)
        self._server.stop()
        close_store(hub)

    def end(self) -> None:
        self.stop()
        self._kept.close()

    def page(self, *, size: dict[str, int] = WIDE, **options: Any) -> Page:
        """A browser of its own."""
        context = self._browser.new_context(viewport=size, **options)  # type: ignore[arg-type]
        page = context.new_page()
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", self._console)
        page.goto(f"http://127.0.0.1:{self.port}/")
        return page

    def _console(self, message: ConsoleMessage) -> None:
        # That a server is away is what these tests are about.
        if message.type == "error" and "WebSocket connection" not in message.text:
            self.errors.append(message.text)

    def enter(self, name: str, **options: Any) -> Page:
        """Somebody new, in the lobby."""
        page = self.page(**options)
        fill_in(page, name)
        page.get_by_role("button", name="Make an account").click()
        expect(page.locator("#room-name")).to_have_text("lobby")
        expect(page.locator("#beginning")).to_have_text("This is the beginning of lobby.")
        return page


@pytest.fixture
def chat(browser: Browser, tmp_path: Path) -> Iterator[Chat]:
    chat = Chat(browser, tmp_path)
    yield chat
    for context in browser.contexts:
        context.close()
    chat.end()
    assert chat.errors == []


def fill_in(page: Page, name: str) -> None:
    page.get_by_role("textbox", name="Name").first.fill(name)
    page.get_by_label("Password").fill(PASSWORD)


def say(page: Page, text: str) -> None:
    box = page.get_by_role("textbox", name="Message", exact=True)
    box.fill(text)
    box.press("Enter")


def texts(page: Page) -> Locator:
    """What is stored and shown."""
    return page.locator("#timeline .message:not(.pending) .text")


def menu(page: Page, item: str) -> None:
    page.get_by_role("menuitem", name=item).click()


def message_menu(page: Page, text: str) -> None:
    message = page.locator("#timeline .message", has_text=text)
    message.hover()
    message.locator(".more").click()


def person_menu(page: Page, name: str) -> None:
    page.locator("#members").get_by_role("button", name=name).click()


def test_a_room_is_not_taken_for_a_person(chat: Chat) -> None:
    ann, bob = chat.enter("Ann"), chat.enter("Bob")
    bob.get_by_role("button", name="Make a room").click()
    bob.locator("#ask-input").fill("to Ann")
    bob.locator("#ask-yes").click()
    expect(bob.locator("#room-name")).to_have_text("to Ann")
    person_menu(ann, "Bob")
    menu(ann, "Write to Bob")
    say(ann, "for you only")
    expect(bob.locator("#direct-rooms")).to_contain_text("Ann")
    expect(bob.locator("#joined-rooms")).to_contain_text("to Ann")
    expect(bob.locator("#timeline")).not_to_contain_text("for you only")
    bob.locator("#direct-rooms button").click()
    expect(texts(bob)).to_have_text(["for you only"])


def test_two_people_talk(chat: Chat) -> None:
    ann, bob = chat.enter("Ann"), chat.enter("Bob")
    expect(ann.locator("#room-facts")).to_contain_text("2 here")
    say(ann, "hello <b>Bob</b> & https://example.org/a?b=1.")
    said = texts(bob).first
    expect(said).to_have_text("hello <b>Bob</b> & https://example.org/a?b=1.")
    expect(said.locator("b")).to_have_count(0)
    expect(said.locator("a")).to_have_attribute("href", "https://example.org/a?b=1")
    expect(bob.locator(".message .name").first).to_have_text("Ann")
    bob.get_by_role("textbox", name="Message", exact=True).press_sequentially("he")
    expect(ann.locator("#typing")).to_have_text("Bob is writing …")
    say(bob, "hello Ann")
    expect(texts(ann)).to_have_count(2)
    expect(ann.locator("#typing")).to_have_text("")
    expect(ann.locator("#heard")).to_contain_text("Bob: hello Ann")
    bob.context.close()
    expect(ann.locator("#room-facts")).to_contain_text("1 here")


def test_editing_and_deleting(chat: Chat) -> None:
    ann, bob = chat.enter("Ann"), chat.enter("Bob")
    say(ann, "first")
    say(ann, "secnd")
    expect(texts(bob)).to_have_count(2)
    ann.get_by_role("textbox", name="Message", exact=True).press("ArrowUp")
    editor = ann.get_by_label("Edit the message")
    expect(editor).to_be_focused()
    editor.fill("second")
    editor.press("Enter")
    expect(texts(bob).nth(1)).to_have_text("second edited")
    message_menu(ann, "first")
    menu(ann, "Delete …")
    ann.get_by_role("button", name="Delete", exact=True).click()
    expect(texts(bob).first).to_have_text("This message was deleted.")
    message_menu(bob, "second")
    expect(bob.get_by_role("menuitem", name="Edit")).to_have_count(0)
    expect(bob.get_by_role("menuitem", name="Delete …")).to_have_count(0)


def test_history_comes_by_scrolling_up(chat: Chat) -> None:
    ann = chat.enter("Ann")
    for n in range(120):
        say(ann, f"message {n}")
    expect(texts(ann)).to_have_count(120)
    bob = chat.page()
    fill_in(bob, "Bob")
    bob.get_by_role("button", name="Make an account").click()
    expect(texts(bob)).to_have_count(50)
    expect(texts(bob).last).to_be_in_viewport()
    for count in (100, 120):
        bob.locator("#scroller").evaluate("(element) => { element.scrollTop = 0; }")
        expect(texts(bob)).to_have_count(count)
    shown = texts(bob).all_text_contents()
    assert shown == [f"message {n}" for n in range(120)]
    expect(bob.locator("#beginning")).to_have_text("This is the beginning of lobby.")


def test_rooms_unread_counts_and_leaving(chat: Chat) -> None:
    ann, bob = chat.enter("Ann"), chat.enter("Bob")
    ann.get_by_role("button", name="Make a room").click()
    ann.get_by_role("textbox", name="Name").last.fill("attic")
    ann.get_by_role("button", name="Make it").click()
    expect(ann.locator("#room-name")).to_have_text("attic")
    bob.reload()
    bob.locator("#other-rooms").get_by_role("button", name="attic").click()
    expect(bob.locator("#room-name")).to_have_text("attic")
    expect(ann.locator("#room-facts")).to_have_text("2 here · you moderate")
    bob.locator("#joined-rooms").get_by_role("button", name="lobby").click()
    say(ann, "one")
    say(ann, "two")
    attic = bob.locator("#joined-rooms").get_by_role("button", name="attic")
    expect(attic.locator(".badge")).to_have_text("2")
    expect(bob).to_have_title("(2) lobby · Wireroom chat")
    expect(texts(bob)).to_have_count(0)
    attic.click()
    expect(bob.locator(".divider.new")).to_have_count(1)
    expect(texts(bob)).to_have_text(["one", "two"])
    expect(attic.locator(".badge")).to_have_count(0)
    bob.get_by_role("button", name="More about this room").click()
    menu(bob, "Leave this room")
    expect(bob.locator("#room-name")).to_have_text("lobby")
    expect(bob.locator("#other-rooms")).to_contain_text("attic")
    expect(ann.locator("#room-facts")).to_have_text("1 here · you moderate")


def test_direct_messages(chat: Chat) -> None:
    ann, bob = chat.enter("Ann"), chat.enter("Bob")
    person_menu(ann, "Bob")
    menu(ann, "Write to Bob")
    say(ann, "in private")
    expect(texts(ann)).to_have_text(["in private"])
    entry = bob.locator("#direct-rooms").get_by_role("button", name="Ann")
    expect(entry.locator(".badge")).to_have_text("1")
    entry.click()
    expect(texts(bob)).to_have_text(["in private"])
    say(bob, "so it is")
    expect(texts(ann)).to_have_text(["in private", "so it is"])
    bob.reload()
    bob.locator("#direct-rooms").get_by_role("button", name="Ann").click()
    expect(texts(bob)).to_have_text(["in private", "so it is"])


def test_moderation(chat: Chat) -> None:
    ann = chat.enter("Ann")
    ann.get_by_role("button", name="Make a room").click()
    ann.get_by_role("textbox", name="Name").last.fill("attic")
    ann.get_by_role("button", name="Make it").click()
    bob = chat.enter("Bob")
    bob.locator("#other-rooms").get_by_role("button", name="attic").click()
    say(bob, "am I heard?")
    expect(texts(ann)).to_have_count(1)
    person_menu(ann, "Bob")
    menu(ann, "Mute for 5 minutes")
    expect(bob.locator("#typing")).to_contain_text("muted Bob")
    say(bob, "and now?")
    expect(bob.locator(".message.failed .state")).to_contain_text("Not sent:")
    bob.get_by_role("button", name="Discard").click()
    expect(bob.locator(".message.pending")).to_have_count(0)
    person_menu(ann, "Bob")
    menu(ann, "Ban …")
    ann.get_by_role("button", name="Ban", exact=True).click()
    expect(bob.locator("#room-name")).to_have_text("lobby")
    bob.locator("#other-rooms").get_by_role("button", name="attic").click()
    expect(bob.locator("#typing")).to_contain_text("You are banned")
    ann.get_by_role("button", name="More about this room").click()
    menu(ann, "Lift a ban …")
    ann.get_by_role("textbox", name="Name").last.fill("Bob")
    ann.get_by_role("button", name="Lift it").click()
    expect(ann.locator("#ask")).to_be_hidden()
    bob.locator("#other-rooms").get_by_role("button", name="attic").click()
    expect(texts(bob)).to_have_text(["am I heard?"])


def test_a_restart_of_the_server_loses_nothing(chat: Chat) -> None:
    ann, bob = chat.enter("Ann"), chat.enter("Bob")
    person_menu(bob, "Ann")
    menu(bob, "Write to Ann")
    say(bob, "private before")
    bob.locator("#joined-rooms").get_by_role("button", name="lobby").click()
    say(ann, "before")
    expect(texts(bob)).to_have_text(["before"])
    chat.stop()
    expect(ann.locator("#notice")).to_contain_text(re.compile(r"Trying again|Connecting"))
    expect(ann.locator("#status")).to_contain_text("Trying to connect again")
    say(ann, "said by Ann meanwhile")
    say(bob, "said by Bob meanwhile")
    expect(ann.locator(".message.pending .state")).to_have_text("Waiting for the connection …")
    chat.start()
    for page in (ann, bob):
        expect(page.locator("#notice")).to_be_hidden()
        expect(texts(page)).to_have_count(3)
    shown = texts(ann).all_text_contents()
    assert shown[0] == "before"
    assert set(shown) == {"before", "said by Ann meanwhile", "said by Bob meanwhile"}
    assert texts(bob).all_text_contents() == shown
    say(bob, "after")
    expect(texts(ann).last).to_have_text("after")
    ann.reload()
    expect(texts(ann)).to_have_text([*shown, "after"])
    ann.locator("#direct-rooms").get_by_role("button", name="Bob").click()
    expect(texts(ann)).to_have_text(["private before"])


def test_who_was_away_sees_what_is_new(chat: Chat) -> None:
    ann = chat.enter("Ann")
    say(ann, "seen")
    expect(texts(ann)).to_have_count(1)
    bob = chat.enter("Bob")  # who comes has read what there is
    expect(texts(bob)).to_have_count(1)
    login = bob.evaluate("() => sessionStorage.getItem('wireroom-chat')")
    bob.context.close()
    for text in ("new 1", "new 2"):
        say(ann, text)
    expect(texts(ann)).to_have_count(3)
    bob = chat.page()
    bob.evaluate("(login) => sessionStorage.setItem('wireroom-chat', login)", login)
    bob.reload()
    expect(texts(bob)).to_have_text(["seen", "new 1", "new 2"])
    expect(bob.locator("#timeline li").nth(2)).to_have_text("New")


def test_logging_out_in_and_wrong_passwords(chat: Chat) -> None:
    ann = chat.enter("Ann")
    ann.get_by_role("button", name="Log out").click()
    expect(ann.locator("#entrance")).to_be_visible()
    ann.get_by_label("Password").fill("wrong password")
    ann.get_by_role("button", name="Log in").click()
    expect(ann.get_by_role("alert").first).to_have_text("The name or the password is wrong.")
    fill_in(ann, "Ann")
    ann.get_by_label("Stay logged in").check()
    ann.get_by_role("button", name="Log in").click()
    expect(ann.locator("#room-name")).to_have_text("lobby")
    other = ann.context.new_page()
    other.goto(ann.url)
    expect(other.locator("#me")).to_have_text("Ann")


def test_a_token_of_another_secret_asks_for_a_log_in(chat: Chat) -> None:
    ann = chat.enter("Ann")
    say(ann, "before")
    expect(texts(ann)).to_have_count(1)
    chat.stop()
    chat.start(jwt_secret="another secret of more than thirty-two bytes")
    expect(ann.locator("#entrance-text")).to_have_text("Please log in again.")
    expect(ann.get_by_role("textbox", name="Name").first).to_have_value("Ann")
    ann.get_by_label("Password").fill(PASSWORD)
    ann.get_by_role("button", name="Log in").click()
    expect(texts(ann)).to_have_text(["before"])
    say(ann, "after")
    expect(texts(ann)).to_have_text(["before", "after"])


def test_by_keyboard_alone(chat: Chat) -> None:
    page = chat.page()
    expect(page.get_by_role("textbox", name="Name").first).to_be_focused()
    keyboard = page.keyboard
    keyboard.type("Ann")
    keyboard.press("Tab")
    keyboard.type(PASSWORD)
    for _ in range(3):
        keyboard.press("Tab")
    expect(page.get_by_role("button", name="Make an account")).to_be_focused()
    keyboard.press("Enter")
    expect(page.get_by_role("textbox", name="Message", exact=True)).to_be_focused()
    for text in ("one", "two"):
        keyboard.type(text)
        keyboard.press("Enter")
    expect(texts(page)).to_have_count(2)
    keyboard.press("Shift+Tab")
    expect(page.locator("#scroller")).to_be_focused()
    for _ in range(2):
        keyboard.press("ArrowUp")
    expect(page.locator(".message").first).to_be_focused()
    keyboard.press("Enter")
    expect(page.get_by_role("menuitem", name="Copy text")).to_be_focused()
    keyboard.press("ArrowDown")
    keyboard.press("Enter")
    expect(page.get_by_label("Edit the message")).to_be_focused()
    keyboard.press("Escape")
    expect(page.get_by_role("textbox", name="Message", exact=True)).to_be_focused()
    keyboard.press("Shift+Tab")
    keyboard.press("ArrowUp")
    keyboard.press("Enter")
    keyboard.press("Escape")
    expect(page.get_by_role("menu")).to_be_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_names_and_contrasts(chat: Chat, size: dict[str, int], scheme: str) -> None:
    """Every control has a name, every text a contrast of 4.5 to 1 (WCAG 2.2, 1.4.3, 4.1.2), and
    nothing is wider than the screen."""
    ann = chat.enter("Ann", size=size, color_scheme=scheme)
    bob = chat.enter("Bob")
    say(bob, "a long word: " + "x" * 300 + " https://example.org/")
    say(ann, "mine")
    expect(texts(ann)).to_have_count(2)
    views = [ann, chat.page(size=size, color_scheme=scheme)]
    if size is NARROW:
        third = chat.enter("Cleo", size=size, color_scheme=scheme)
        third.get_by_role("button", name="All rooms").click()
        views.append(third)
    for page in views:
        report = page.evaluate(CONTRASTS)
        assert report["nameless"] == []
        assert report["faint"] == []
        assert report["texts"] >= 5
        assert report["overflow"] <= 0


def test_a_phone_shows_one_thing_at_a_time(chat: Chat) -> None:
    page = chat.enter("Ann", size=NARROW, has_touch=True, is_mobile=True)
    expect(page.get_by_role("navigation")).to_be_hidden()
    page.get_by_role("button", name="All rooms").click()
    expect(page.get_by_role("navigation")).to_be_visible()
    expect(page.locator("#scroller")).to_be_hidden()
    page.locator("#joined-rooms").get_by_role("button", name="lobby").click()
    expect(page.locator("#room-name")).to_be_focused()
    page.get_by_role("button", name="People here").click()
    expect(page.locator("#members")).to_contain_text("Ann (you)")


def test_the_policy_lets_nothing_in_from_elsewhere(chat: Chat) -> None:
    page = chat.page()
    response = page.reload()
    assert response is not None
    policy = response.headers["content-security-policy"]
    assert policy.startswith("default-src 'self';")
    assert "unsafe" not in policy
    source = response.text()
    assert not re.search(r"<script(?![^>]*src=)|<style|\sstyle=|\son\w+=", source)
