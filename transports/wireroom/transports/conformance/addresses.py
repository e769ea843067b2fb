"""Where connections come from: TLS, Unix sockets, sockets that another server has accepted."""

from __future__ import annotations

import socket
import ssl
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from wireroom.core import App, Limits, Request, Session

from .behaviours import Behaviours, Server, needs
from .client import PATIENCE_S, TEXT, Client, frame
from .harness import Feature, Options


class Contexts(NamedTuple):
    """Both sides of TLS: a server, a client that trusts it, and one that shows a certificate."""

    server: ssl.SSLContext
    anonymous: ssl.SSLContext
    known: ssl.SSLContext


@cache
def _make_contexts() -> Contexts:
    trustme = pytest.importorskip("trustme", reason="trustme makes the certificates for TLS")
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server)
    server.verify_mode = ssl.CERT_OPTIONAL
    authority.configure_trust(server)
    anonymous, known = ssl.create_default_context(), ssl.create_default_context()
    for each in (anonymous, known):
        authority.configure_trust(each)
    authority.issue_cert(common_name="ann").configure_cert(known)
    return Contexts(server, anonymous, known)


def _app(limits: Limits | None = None) -> App:
    app = App(limits=limits)
    module = app.module("/")

    @module.on_handshake
    def remember(request: Request) -> None:
        seen = request.client_certificate
        request.path_params["names"] = (
            []
            if seen is None
            else [value for part in seen["subject"] for name, value in part if name == "commonName"]
        )

    @module.on_message
    def answer(session: Session, message: str | bytes) -> str | bytes | dict[str, object]:
        if message != "who":
            return message
        return {"secure": session.handshake.secure, "names": session.path_params["names"]}

    @app.http("/healthz")
    def healthz(request: Request) -> str:
        return "ok"

    return app


class Addresses(Behaviours):
    """Sockets of every kind."""

    @pytest.fixture
    def contexts(self, server: Server) -> Contexts:
        """Contexts of TLS; made once."""
        return _make_contexts()

    @pytest.fixture
    def folder(self) -> Iterator[Path]:
        """A folder with a short name, as Unix sockets need."""
        with tempfile.TemporaryDirectory(prefix="wireroom-") as folder:
            yield Path(folder)

    @needs(Feature.TLS)
    def test_wss(self, server: Server, contexts: Contexts) -> None:
        server.start(_app(), Options(tls=contexts.server))
        client = server.connect(tls=contexts.anonymous).handshake("/")
        client.send("who")
        assert client.receive() == '{"secure":true,"names":[]}'
        for message in ("", "x" * 300_000, b"\x00" * 1_000_000):
            client.write(frame(TEXT if isinstance(message, str) else 0x2, _bytes(message)))
            assert client.receive() == message
        client.write(client.encode("byte by byte"), piece_bytes=1)
        assert client.receive() == "byte by byte"
        assert client.close() == 1000
        assert server.wait_idle().close_timeouts == 0

    @needs(Feature.TLS, Feature.FRAMES)
    def test_a_violation_ends_wss(self, server: Server, contexts: Contexts) -> None:
        server.start(_app(), Options(tls=contexts.server))
        client = server.connect(tls=contexts.anonymous).handshake("/")
        client.write(frame(0x3))
        assert client.await_close() == (1002, "opcode 0x3 is reserved")
        client.read_to_end()

    @pytest.mark.parametrize("messages", [0, 1, 2, 3])
    @needs(Feature.TLS)
    def test_wss_sends_what_nobody_asked_for_and_ends_in_order(
        self, server: Server, contexts: Contexts, messages: int
    ) -> None:
        server.start(_app(), Options(tls=contexts.server, grace_s=PATIENCE_S))
        leaving = server.connect(tls=contexts.anonymous).handshake("/")
        client = server.connect(tls=contexts.anonymous).handshake("/")
        for number in range(messages):
            leaving.send(str(number))
            assert leaving.receive() == str(number)
        assert leaving.close() == 1000
        for text in ("pushed", "x" * 500_000, "again"):
            server.call(lambda hub, text=text: hub.broadcast(text))  # type: ignore[misc]
            assert client.receive() == text
        stopping = server.stop_soon()
        assert client.finish()[0] == 1001
        report = stopping.result(PATIENCE_S)
        assert (report.aborted, report.unfinished) == (0, 0)

    @needs(Feature.TLS)
    def test_the_certificate_of_a_client_is_seen_in_the_handshake(
        self, server: Server, contexts: Contexts
    ) -> None:
        server.start(_app(), Options(tls=contexts.server))
        client = server.connect(tls=contexts.known).handshake("/")
        client.send("who")
        assert client.receive() == '{"secure":true,"names":["ann"]}'

    @needs(Feature.TLS, Feature.HEADS)
    def test_tls_that_stalls_or_is_none_is_ended(self, server: Server, contexts: Contexts) -> None:
        server.start(_app(Limits(head_timeout_s=1.5)), Options(tls=contexts.server))
        silent, plain = server.connect(), server.connect()
        plain.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        plain.read_to_end()
        silent.read_to_end()
        client = server.connect(tls=contexts.anonymous).handshake("/")
        client.send("who")
        assert "true" in str(client.receive())

    @needs(Feature.TLS)
    def test_peers_that_vanish_leave_nothing_of_tls(
        self, server: Server, contexts: Contexts
    ) -> None:
        server.start(_app(), Options(tls=contexts.server))
        for leave in (Client.reset, Client.drop):
            leave(server.connect(tls=contexts.anonymous).handshake("/"))
            leave(server.connect(tls=contexts.anonymous))
            leave(server.connect())
        assert server.wait_idle().sessions_total == 2

    @needs(Feature.UNIX)
    def test_unix_sockets(self, server: Server, folder: Path) -> None:
        path = folder / "socket"
        server.start(_app(), Options(unix=path))
        client = server.open("/")
        client.send("x" * 100_000)
        assert client.receive() == "x" * 100_000
        assert client.close() == 1000
        assert server.connect().request("/healthz").body == b"ok"
        server.stop()
        assert not path.exists()

    @pytest.mark.parametrize("read_bytes", [0, 40, 10_000], ids=["none", "some", "all"])
    @needs(Feature.ADOPTION)
    def test_sockets_that_another_server_has_accepted(
        self, server: Server, read_bytes: int
    ) -> None:
        server.start(_app())
        ours, theirs = socket.socketpair()
        client = server.keep(Client(ours))
        sent = client.upgrade("/") + frame(TEXT, b"early")
        client.write(sent[read_bytes:])
        server.adopt(theirs, sent[:read_bytes])
        client.await_acceptance()
        assert client.receive() == "early"
        client.send("x" * 300_000)
        assert client.receive() == "x" * 300_000
        assert client.close() == 1000
        assert server.wait_idle().connections_total == 1


def _bytes(message: str | bytes) -> bytes:
    return message.encode() if isinstance(message, str) else message
