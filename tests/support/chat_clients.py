"""People who use the chat, over sockets, and what a test needs to let them in."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final, Self

import msgspec
from argon2 import PasswordHasher

from accounts import Passwords
from chat_settings import ChatSettings
from logging_in import new_issuer
from records import Account
from server import make_app
from wireroom.core import App
from wireroom.transports.conformance import Address
from wireroom.transports.conformance.client import Client

SECRET: Final = "a secret of the tests, of more than 32 bytes"
PASSWORD: Final = "correct horse"
MESSAGES_MAX: Final = 10_000  # until the one that is waited for

Match = Callable[[Any], bool]


def chat_app(database_url: str, **settings: Any) -> App:
    """The chat on a database, with a hash that costs little; fast people are let through."""
    fast = {
        f"chat_{name}_{each}": 1e6
        for name in ("messages", "requests", "log_ins")
        for each in ("per_s", "burst")
    }
    app = make_app(
        ChatSettings(**{"database_url": database_url, "jwt_secret": SECRET, **fast, **settings})
    )
    app.provide(Passwords, lambda: Passwords(PasswordHasher(1, 8, 1)))
    return app


def token_of(account: Account) -> str:
    """A token for an account, as it is issued to who logs in."""
    issuer = new_issuer(SECRET, 3600.0)
    return issuer.issue(str(account.id), now=time.time(), claims={"name": account.name})


class RefusedError(Exception):
    """The chat has answered a request with an error."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(f"{error['code']}: {error['message']}")
        self.code = error["code"]
        self.error = error


class Person:
    """A connection to the chat. `events` are those that were received and not asked for yet."""

    def __init__(self, address: Address, path: str = "/chat", **options: Any) -> None:
        self.client = Client.connect(address).handshake(path, **options)
        self.events: list[Any] = []
        self._requests = 0

    def send(self, kind: str, **fields: Any) -> int:
        """Send a request, and give its id."""
        self._requests += 1
        message = {"type": kind, "request_id": self._requests, **fields}
        self.client.send(msgspec.json.encode(message).decode())
        return self._requests

    def reply(self, request_id: int) -> Any:
        """The data of a request's reply. Raises `RefusedError`."""
        answer = self._await(lambda each: each.get("request_id") == request_id)
        if answer["type"] == "error":
            raise RefusedError(answer)
        return answer["data"]

    def ask(self, kind: str, **fields: Any) -> Any:
        """Send a request; the data of its reply."""
        return self.reply(self.send(kind, **fields))

    def hear(self, kind: str, **fields: Any) -> Any:
        """The next event of a type, and with these fields, that came or comes."""
        return self._await(
            lambda each: (
                each["type"] == kind
                and all(each.get(name) == value for name, value in fields.items())
            )
        )

    def hear_joined(self, *names: str) -> None:
        """Wait until it was told that all of these came into a room."""
        missing = set(names)
        while missing:
            missing -= {account["name"] for account in self.hear("presence")["joined"]}

    def log_in(self, name: str, password: str = PASSWORD) -> Any:
        """A token for an account."""
        return self.ask("log_in", name=name, password=password)

    def _await(self, match: Match) -> Any:
        for index, event in enumerate(self.events):
            if match(event):
                return self.events.pop(index)
        for _ in range(MESSAGES_MAX):
            event = msgspec.json.decode(self.client.receive(f"one more than {self.events[-3:]}"))
            if match(event):
                return event
            self.events.append(event)
        raise AssertionError(f"it is not among {MESSAGES_MAX} messages")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.leave()

    def leave(self) -> None:
        """End without a word."""
        self.client.drop()
