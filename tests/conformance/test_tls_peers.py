"""Peers of a TLS port that are told, in what they speak, why there is no handshake."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme

from harnesses import BlockingHarness, LoopHarness, run_anyio_asyncio, run_anyio_trio
from wireroom.core import App
from wireroom.transports.anyio import Server as AnyioServer
from wireroom.transports.conformance import Harness, Options
from wireroom.transports.conformance.client import Client
from wireroom.transports.tls import PLAIN_HTTP_RESPONSE, server_context

HARNESSES: dict[str, Callable[[], Harness]] = {
    "anyio-asyncio": lambda: LoopHarness(AnyioServer, run_anyio_asyncio),
    "anyio-trio": lambda: LoopHarness(AnyioServer, run_anyio_trio),
    "blocking": BlockingHarness,
}


@pytest.fixture(params=HARNESSES)
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[object]:
    """Where a server listens for TLS 1.2 or later."""
    certificate = tmp_path / "both.pem"
    trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(certificate)
    harness = HARNESSES[request.param]()
    yield harness.start(App(), Options(tls=server_context(certificate)))
    harness.stop()


def test_http_without_tls_is_answered_in_http(address: str) -> None:
    with Client.connect(address) as peer:
        peer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert peer.read_to_end() == PLAIN_HTTP_RESPONSE


def test_what_is_no_tls_gets_an_alert(address: str) -> None:
    with Client.connect(address) as peer:
        peer.write(b"\x16\x03\x01\x00\x05" + b"hello")  # a record of a handshake (RFC 8446 5.1)
        alert = peer.read_to_end()
    assert alert[0] == 21  # RFC 8446 section 6
    assert alert[-2] == 2  # fatal
