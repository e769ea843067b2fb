"""Messages and frames: whole, in fragments, in bytes, large, too large, and wrong."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from wsproto.events import Ping, TextMessage

from wireroom.core import App, Deflate, Limits, Session, WebSocket

from .behaviours import Behaviours, Server, Told, needs
from .client import BINARY, CLOSE, CONTINUATION, TEXT, frame
from .harness import Feature

KINDS = ["function", "inline", "waiting", "receiving"]
MESSAGES: list[str | bytes] = [
    "",
    "grüße € \U0001f600",
    b"",
    b"\x00\xff" * 63,  # the longest that one byte counts is 125
    "x" * 125,
    b"y" * 65_535,
    "z" * 65_536,
    b"\x00\xff" * 150_000,
]


def echo_app(told: Told[tuple[int, str]] | None = None, **settings: Any) -> App:
    """Echoes by each kind of handler that there is; tells how sessions have closed."""
    app = App(**settings)

    @app.websocket("/function")
    async def function(ws: WebSocket) -> None:
        await ws.accept()
        async for message in ws:
            await ws.send(message)

    inline = app.module("/inline")

    @inline.on_message
    def echo(session: Session, message: str | bytes) -> str | bytes:
        return message

    @inline.on_close
    def closed(session: Session) -> None:
        if told is not None:
            told.put((session.close_code, session.close_reason))

    @app.module("/waiting").on_message
    async def echo_later(session: Session, message: str | bytes) -> str | bytes:
        await session.sleep(0.001)
        return message

    @app.module("/receiving").on_open
    async def receiving(session: Session) -> None:
        async for message in session:
            await session.send(message)
            await session.drain()

    text = app.module("/text", kinds="text")

    @text.on_message
    def echo_text(session: Session, message: str) -> str:
        return message

    return app


class Messages(Behaviours):
    """Echo, and what is not echoed."""

    @pytest.mark.parametrize("framing", ["wireroom", "wsproto"])
    @pytest.mark.parametrize("deflate", [False, True], ids=["plain", "deflate"])
    @pytest.mark.parametrize("kind", KINDS)
    def test_echo(
        self, server: Server, framing: Literal["wireroom", "wsproto"], deflate: bool, kind: str
    ) -> None:
        settings = Deflate(threshold_bytes=0) if deflate else None
        server.start(echo_app(framing=framing, deflate=settings))
        client = server.open(f"/{kind}", deflate=deflate)
        for message in MESSAGES:
            client.send(message)
            assert client.receive() == message
        assert client.close(1000) == 1000
        stats = server.wait_idle()
        assert stats.messages_received == stats.messages_sent == len(MESSAGES)

    @pytest.mark.parametrize("kind", KINDS)
    def test_many_messages_in_one_write_are_echoed_in_order(
        self, server: Server, kind: str
    ) -> None:
        server.start(echo_app())
        client = server.open(f"/{kind}")
        numbers = [str(number) for number in range(150)]
        client.send(*numbers)
        assert [client.receive() for _ in numbers] == numbers

    @needs(Feature.EARLY_FRAMES)
    def test_a_handshake_and_messages_in_one_write(self, server: Server) -> None:
        server.start(echo_app())
        client = server.connect()
        client.write(client.upgrade("/inline") + frame(TEXT, b"early") + frame(BINARY, b"bird"))
        client.await_acceptance()
        assert [client.receive(), client.receive()] == ["early", b"bird"]

    def test_messages_byte_by_byte(self, server: Server) -> None:
        server.start(echo_app())
        client = server.open("/inline")
        client.write(client.encode("grüße", b"\x00" * 130, ""), piece_bytes=1)
        assert [client.receive() for _ in range(3)] == ["grüße", b"\x00" * 130, ""]

    @pytest.mark.parametrize("kind", KINDS)
    def test_fragments_make_one_message(self, server: Server, kind: str) -> None:
        server.start(echo_app())
        client = server.open(f"/{kind}")
        client.send(TextMessage("in ", message_finished=False))
        client.send(Ping(b"between"))
        client.send(TextMessage("three ", message_finished=False), TextMessage("pieces"))
        assert client.receive() == "in three pieces"
        assert client.ponged == [b"between"]
        # A character of three bytes, cut.
        euro = "€".encode()
        client.write(frame(TEXT, euro[:1], fin=False))
        client.write(frame(CONTINUATION, euro[1:2], fin=False) + frame(CONTINUATION, euro[2:]))
        assert client.receive() == "€"

    def test_a_ping_is_answered_with_its_payload(self, server: Server) -> None:
        server.start(echo_app())
        client = server.open("/inline")
        client.send(Ping(b"a"), Ping(b""), "done")
        assert client.receive() == "done"
        client.send("after")
        assert client.receive() == "after"
        assert client.ponged == [b"a", b""]

    @pytest.mark.parametrize("kind", ["function", "inline"])
    def test_a_message_may_be_as_long_as_the_limit(self, server: Server, kind: str) -> None:
        server.start(echo_app(limits=Limits(message_bytes_max=2**20)))
        client = server.open(f"/{kind}")
        longest = b"\x01\x02\x03\x04" * 2**18
        client.write(frame(BINARY, longest))
        assert client.receive() == longest

    @pytest.mark.parametrize("kind", ["function", "inline"])
    @needs(Feature.MESSAGE_LIMIT)
    def test_a_message_beyond_the_limit_is_closed_with_1009(
        self, server: Server, kind: str
    ) -> None:
        server.start(echo_app(limits=Limits(message_bytes_max=1000)))
        for chunks in (
            [frame(BINARY, bytes(1001))],
            [frame(TEXT, b"x" * 600, fin=False), frame(CONTINUATION, b"x" * 401)],
        ):
            client = server.open(f"/{kind}")
            client.write(b"".join(chunks))
            assert client.finish()[0] == 1009
        assert server.wait_idle().messages_received == 0

    @needs(Feature.FRAMES)
    def test_a_message_that_announces_too_much_is_closed_before_it_is_sent(
        self, server: Server
    ) -> None:
        server.start(echo_app(limits=Limits(message_bytes_max=1000)))
        client = server.open("/inline")
        client.write(frame(BINARY, bytes(2**16))[:14])  # its header
        assert client.finish()[0] == 1009

    @pytest.mark.parametrize(
        ("wrong", "code", "reason"),
        [
            (frame(TEXT, b"a", masked=False), 1002, "not masked"),
            (frame(0x3), 1002, "opcode 0x3 is reserved"),
            (frame(TEXT, b"a", rsv=0x20), 1002, "reserved"),
            (frame(CONTINUATION, b"a"), 1002, ""),
            (frame(CLOSE, b"\x03"), 1002, ""),
            (frame(TEXT, b"\xff"), 1007, ""),
        ],
        ids=["unmasked", "opcode", "bit", "continuation", "close", "utf-8"],
    )
    @needs(Feature.FRAMES)
    def test_a_violation_is_closed_after_earlier_messages(
        self, server: Server, wrong: bytes, code: int, reason: str
    ) -> None:
        told: Told[tuple[int, str]] = Told()
        server.start(echo_app(told))
        client = server.open("/inline")
        client.write(frame(TEXT, b"before") + wrong + frame(TEXT, b"after"))
        assert client.receive() == "before"
        closed, why = client.finish()
        assert (closed, reason in why) == (code, True)
        assert told.next("on_close")[0] == code
        assert server.wait_idle().violations == 1

    def test_a_kind_of_message_that_is_not_taken_is_closed_with_1003(self, server: Server) -> None:
        server.start(echo_app())
        client = server.open("/text")
        client.send("text", b"binary", "after")
        assert client.receive() == "text"
        assert client.finish()[0] == 1003

    @pytest.mark.parametrize(
        ("code", "reason"), [(1000, ""), (1001, "going"), (4999, "mine: €")], ids=str
    )
    @needs(Feature.CLOSE_CODES)
    def test_the_code_of_a_close_is_echoed_and_told(
        self, server: Server, code: int, reason: str
    ) -> None:
        told: Told[tuple[int, str]] = Told()
        server.start(echo_app(told))
        client = server.open("/inline")
        assert client.close(code, reason) == code
        closed = told.next("on_close")
        assert closed[0] == code
        assert closed[1] in (reason, "")  # a host may keep the reason to itself

    @needs(Feature.CLOSE_ORDER)
    def test_a_close_comes_after_earlier_messages(self, server: Server) -> None:
        server.start(echo_app())
        client = server.open("/waiting")
        client.write(client.encode("one", "two") + frame(CLOSE, b"\x0f\xa0"))
        assert [client.receive(), client.receive()] == ["one", "two"]
        assert client.await_close()[0] == 4000
        client.read_to_end()
