"""The chat in virtual time: nodes that a backplane in memory joins, on one database of SQLite.

Only the database's threads are real; `settle` waits until they have nothing to do.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, final

import msgspec

from backplane import MemoryBackplane, Node
from chat_clients import chat_app, token_of
from databases import sqlite_url
from driver import Peer
from records import Account
from store import Store

WAIT_S = 60.0  # for real threads, on a machine that has other things to do


@final
class SimulatedChat:
    """Nodes, the `store` that they have in common, and who is in their rooms."""

    def __init__(self, folder: Path, nodes: int = 1, **settings: Any) -> None:
        self.store = Store(sqlite_url(folder), readers=1)
        assert self.store.start(WAIT_S)
        self.store.create_room("lobby").result(WAIT_S)
        self.backplane = MemoryBackplane()
        self.nodes: list[Node] = []
        for _ in range(nodes):
            app = chat_app(sqlite_url(folder), **settings)
            app.provide(Store, lambda: self.store)
            self.nodes.append(self.backplane.node(app))
            self.backplane.advance(0.5)  # nodes do not do things at the same moment
        self._numbers: dict[Peer, int] = {}

    def account(self, name: str) -> Account:
        """A new one."""
        return self.store.create_account(name, "none").result(WAIT_S)

    def enter(self, node: Node, account: Account, room: str = "lobby") -> Peer:
        """Somebody who is in a room."""
        peer = node.open("/chat", headers=[(b"authorization", b"Bearer " + token(account))])
        self.ask(peer, "join_room", room=room)
        return peer

    def ask(self, peer: Peer, kind: str, **fields: Any) -> Any:
        """The reply to a request, whole."""
        number = self._numbers[peer] = self._numbers.get(peer, 0) + 1
        peer.send(msgspec.json.encode({"type": kind, "request_id": number, **fields}).decode())
        self.settle()
        (answer,) = (each for each in events(peer) if each.get("request_id") == number)
        return answer

    def settle(self) -> None:
        """Go on until there is nothing left to do at this time."""
        while True:
            self.backplane.settle()
            self.store.write(lambda connection: None).result(WAIT_S)
            self.store.read(lambda connection: None).result(WAIT_S)
            if all(node.posted.empty() for node in self.nodes):
                return
            for node in self.nodes:
                node.settle()

    def advance(self, seconds: float) -> None:
        """Let time pass, half a second at a time."""
        for _ in range(round(2 * seconds)):
            self.backplane.advance(0.5)
            self.settle()

    def end(self) -> None:
        """End the store's threads."""
        assert self.store.close(WAIT_S)


def token(account: Account) -> bytes:
    """An account's, as it stands in a header."""
    return token_of(account).encode()


def events(peer: Peer) -> list[Any]:
    """All that a peer was told so far."""
    return [msgspec.json.decode(message) for message in peer.messages]
