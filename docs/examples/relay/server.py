"""An instant-message relay: who connects to /ws/{id} is user `id`, and may send to other users.

    python docs/examples/relay/server.py            listens on 127.0.0.1:8080

Messages are JSON objects with an integer `type`:

    {"type": 1, "sender": 7}                                    CONNECT, to others: 7 is here
    {"type": 2, "receiver": 8, "content": "hello"}              SEND, from a client
    {"type": 3, "sender": 7, "receiver": 8, "content": "hello"} RECEIVE, to the receiver
    {"type": 4}                                                 CLOSE, from a client
    {"type": 0, "error": "..."}                                 ERROR, to whoever made a mistake
"""

from __future__ import annotations

import argparse
import asyncio
from enum import IntEnum
from typing import Any

import msgspec

from wireroom.core import Accept, App, Reject, Request, Session
from wireroom.transports.asyncio import Server, serve


class Type(IntEnum):
    """What a message is."""

    ERROR = 0
    CONNECT = 1
    SEND = 2
    RECEIVE = 3
    CLOSE = 4


class Envelope(msgspec.Struct):
    """What every message has."""

    type: Type


class Send(msgspec.Struct):
    """A message for another user."""

    receiver: int
    content: str


def make_app() -> App:
    """The relay; it knows no transport."""
    app = App(second_session="replace")
    relay = app.module("/ws/{id}", kinds="text")

    @relay.on_handshake
    def bind_user(request: Request) -> Accept | Reject:
        user = request.path_params["id"]
        if not user.isdecimal():
            return Reject(400, f"{user!r} is no user id: it must be a number\n")
        return Accept(user=int(user))

    @relay.on_open
    def connected(session: Session) -> None:
        others = [each for each in session.hub.sessions() if each is not session]
        session.hub.broadcast({"type": Type.CONNECT, "sender": session.user}, to=others)

    @relay.on_message
    def on_message(session: Session, message: str) -> dict[str, Any] | None:
        try:
            kind = msgspec.json.decode(message, type=Envelope).type
            if kind is Type.SEND:
                return send(session, msgspec.json.decode(message, type=Send))
        except msgspec.DecodeError as error:
            return {"type": Type.ERROR, "error": str(error)}
        if kind is Type.CLOSE:
            session.close()
            return None
        return {"type": Type.ERROR, "error": f"a client does not send {kind.name}"}

    return app


def send(session: Session, data: Send) -> dict[str, Any] | None:
    """Relay to all of the receiver's sessions; an error for the sender if there is none."""
    relayed = {
        "type": Type.RECEIVE,
        "sender": session.user,
        "receiver": data.receiver,
        "content": data.content,
    }
    if session.hub.user(data.receiver).send(relayed):
        return None
    return {"type": Type.ERROR, "error": f"user {data.receiver} is not connected"}


def main() -> None:
    parser = argparse.ArgumentParser(description="An instant-message relay.")
    parser.add_argument("--port", type=int, default=8080)
    arguments = parser.parse_args()

    def ready(server: Server) -> None:
        print(f"relaying on ws://127.0.0.1:{server.addresses[0][1]}/ws/{{id}}", flush=True)

    asyncio.run(serve(make_app(), "127.0.0.1", arguments.port, on_ready=ready))


if __name__ == "__main__":
    main()
