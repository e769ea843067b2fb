"""What ends by the clock: heads, handshakes, keepalive, closes. Real time, in small amounts."""

from __future__ import annotations

from typing import Any

import pytest
from wsproto.events import TextMessage

from wireroom.core import App, Hub, Limits, Session, WebSocket

from .behaviours import Behaviours, Server, Told, needs
from .client import PATIENCE_S, TEXT, Client, frame
from .handshakes import refusal
from .harness import Feature


def _app(told: Told[int] | None = None, **limits: Any) -> App:
    app = App(limits=Limits(**limits))
    echo = app.module("/")

    @echo.on_message
    def answer(session: Session, message: str) -> str | None:
        if message == "close":
            session.close(4000, "asked to")
            return None
        return message

    @echo.on_close
    def closed(session: Session) -> None:
        if told is not None:
            told.put(session.close_code)

    @app.websocket("/undecided")
    async def undecided(ws: WebSocket) -> None:
        await ws.sleep(3600)

    return app


class Deadlines(Behaviours):
    """Deadlines, whatever the peer does."""

    @needs(Feature.HEADS)
    @pytest.mark.parametrize(
        ("begun", "answer"), [(b"", b""), (b"GET / HTTP/1.1\r\nHost: a\r\n", b"HTTP/1.1 408 ")]
    )
    def test_a_head_that_does_not_come(self, server: Server, begun: bytes, answer: bytes) -> None:
        server.start(_app(head_timeout_s=0.15, close_timeout_s=0.15))

        def begin(hub: Hub) -> Client:
            """While the server takes nobody, so that all there is of the head is there at once."""
            client = server.connect()
            client.write(begun)
            return client

        client = server.call(begin)
        received = client.read_to_end()
        assert received.startswith(answer) if answer else received == b""
        assert server.wait_idle().head_timeouts == 1  # though we keep our side open

    @needs(Feature.REJECTION)
    def test_a_handshake_that_nobody_decides(self, server: Server) -> None:
        server.start(_app(handshake_timeout_s=0.15, close_timeout_s=0.15))
        assert refusal(server.connect(), "/undecided").response.status == 503
        server.wait_idle()  # the handler too

    @needs(Feature.PINGS)
    def test_a_peer_that_does_not_answer_pings(self, server: Server) -> None:
        told: Told[int] = Told()
        server.start(_app(told, ping_interval_s=0.1, ping_timeout_s=0.15, close_timeout_s=0.15))
        client = server.open("/")
        client.answers_pings = False
        assert client.await_close() == (1011, "keepalive ping timeout")
        assert client.pinged >= 1
        client.read_to_end()
        assert told.next("on_close") == 1011
        stats = server.wait_idle()
        assert (stats.ping_timeouts, stats.close_timeouts) == (1, 1)

    @needs(Feature.PINGS)
    def test_a_peer_that_answers_pings_stays(self, server: Server) -> None:
        server.start(_app(ping_interval_s=0.05, ping_timeout_s=PATIENCE_S))
        client = server.open("/")
        for _ in range(5):
            client.await_ping()
        client.send("here")
        assert client.receive() == "here"
        assert server.stats.ping_timeouts == 0

    @needs(Feature.CLOSING)
    def test_a_peer_that_does_not_answer_a_close(self, server: Server) -> None:
        told: Told[int] = Told()
        server.start(_app(told, close_timeout_s=0.15))
        client = server.open("/")
        client.send("close")
        assert client.await_close() == (4000, "asked to")
        client.read_to_end()
        assert told.next("on_close") == 4000
        assert server.wait_idle().close_timeouts == 1

    @needs(Feature.FRAMES)
    def test_a_violation_ends_it_though_the_peer_does_nothing(self, server: Server) -> None:
        server.start(_app(close_timeout_s=0.15))
        client = server.open("/")
        client.write(frame(TEXT, b"a", masked=False))
        assert client.await_close()[0] == 1002
        client.read_to_end()  # at once: the server ends its side
        assert server.wait_idle().close_timeouts == 1

    @needs(Feature.CLOSING)
    def test_a_peer_that_sends_on_after_our_close(self, server: Server) -> None:
        server.start(_app(close_timeout_s=PATIENCE_S))
        client = server.open("/")
        client.write(client.encode("close") + client.encode(*[TextMessage("more")] * 50))
        assert client.finish() == (4000, "asked to")
        stats = server.wait_idle()
        assert (stats.close_timeouts, stats.dropped_messages_received) == (0, 50)
