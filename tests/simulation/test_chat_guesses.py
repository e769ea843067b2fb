"""Whoever guesses at passwords is held up, in virtual time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from chat_simulated import SimulatedChat
from driver import Peer
from guesses import KNOWN_MAX, Guesses
from rates import Rate

PASSWORD = "correct horse"


@pytest.fixture
def chat(tmp_path: Path) -> Iterator[SimulatedChat]:
    chat = SimulatedChat(tmp_path, chat_wrong_passwords_per_s=0.02, chat_wrong_passwords_burst=3.0)
    yield chat
    chat.end()


def stranger(chat: SimulatedChat, host: str) -> Peer:
    """Somebody at an address who may register or log in."""
    peer = chat.nodes[0].connect(host)
    peer.open("/accounts")
    return peer


def attempt(chat: SimulatedChat, peer: Peer, name: str, password: str) -> str:
    """What comes of logging in: a token, or what is said of why not."""
    answer = chat.ask(peer, "log_in", name=name, password=password)
    if answer["type"] == "reply":
        assert answer["data"]["account"]["name"] == "Ann"
        return "in"
    return f"{answer['code']}: {answer['message']}"


def test_an_account_is_guessed_at_so_often_whether_it_is_there_or_not(
    chat: SimulatedChat,
) -> None:
    home = stranger(chat, "192.0.2.1")
    assert chat.ask(home, "register", name="Ann", password=PASSWORD)["type"] == "reply"
    said: dict[str, list[str]] = {}
    for name in ("Ann", "Nobody"):
        said[name] = []
        for number in range(5):  # each from an address of its own
            peer = stranger(chat, f"198.51.100.{number}")
            said[name].append(attempt(chat, peer, name.upper(), f"guess {number}"))
            peer.lose()
    wrong = "wrong_password: the name or the password is wrong"
    later = "rate_limited: too many wrong passwords for this name: try again in 50 seconds"
    assert said["Ann"] == said["Nobody"] == [*3 * [wrong], *2 * [later]]

    assert attempt(chat, home, "Ann", PASSWORD) == later  # the right one is not looked at
    chat.advance(48.5)
    assert attempt(chat, home, "Ann", PASSWORD).endswith("try again in 2 seconds")
    chat.advance(2.0)
    assert attempt(chat, home, "Ann", PASSWORD) == "in"


def test_who_was_in_before_is_not_kept_out(chat: SimulatedChat) -> None:
    home, other = stranger(chat, "192.0.2.1"), stranger(chat, "198.51.100.1")
    chat.ask(home, "register", name="Ann", password=PASSWORD)
    for _ in range(10):  # what is right does not count
        assert attempt(chat, home, "Ann", PASSWORD) == "in"
    refused = [attempt(chat, other, "Ann", "guess") for _ in range(4)]
    assert refused[-1].startswith("rate_limited")
    assert attempt(chat, home, "Ann", PASSWORD) == "in"
    for _ in range(3):
        assert attempt(chat, home, "Ann", "forgotten").startswith("wrong_password")
    assert attempt(chat, home, "Ann", PASSWORD).startswith("rate_limited")


def test_what_is_remembered_is_bounded() -> None:
    guesses = Guesses(Rate(per_s=0.02, burst=3.0))
    for number in range(KNOWN_MAX + 500):
        with guesses.counted(f"name {number}", "192.0.2.1", 0.0):
            pass
    assert len(guesses) <= KNOWN_MAX + 2000
