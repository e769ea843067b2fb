"""What transports log of facts has fields, for logs that programs read."""

from __future__ import annotations

import asyncio
import logging

import pytest
from websockets.asyncio.client import connect

from wireroom.core import Accept, App, Request, Session
from wireroom.transports.asyncio import Server


def test_facts_are_logged_with_fields(caplog: pytest.LogCaptureFixture) -> None:
    app = App()
    module = app.module("/chat")

    @module.on_handshake
    def decide(request: Request) -> Accept:
        return Accept(user="ann")

    @module.on_message
    def fail(session: Session, message: str) -> None:
        raise ValueError(message)

    async def main() -> None:
        async with Server(app, port=0) as server:
            port = server.addresses[0][1]
            async with connect(f"ws://127.0.0.1:{port}/chat") as client:
                await client.send("on purpose")
                await client.recv()
                await client.close(4001, "enough")
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /nowhere HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
            await server.wait_idle()
            writer.close()
            await writer.wait_closed()

    with caplog.at_level(logging.DEBUG, "wireroom.asyncio"):
        asyncio.run(main())
    found = {vars(each)["event"]: vars(each) for each in caplog.records if "event" in vars(each)}
    who = {"fd": 1, "path": "/chat", "user": "ann"}
    assert found["session_opened"].items() >= who.items()
    assert found["handler_failed"].items() >= who.items()
    assert found["handler_failed"]["handler"].endswith("fail")
    assert found["session_closed"].items() >= {**who, "code": 4001, "reason": "enough"}.items()
    assert found["request_answered"].items() >= {"target": "/nowhere", "status": 404}.items()
