"""The opening handshake (RFC 6455 section 4), server and client, by the letter. Pure."""

from __future__ import annotations

import binascii
import hashlib
import re
from collections.abc import Sequence
from typing import Final, Literal, NamedTuple, TypeAlias
from urllib.parse import urlsplit

from ..errors import ConfigurationError, LocalProtocolError, RemoteProtocolError
from . import deflate
from .deflate import Deflate, DeflateParameters
from .header_grammar import (
    ExtensionOffer,
    is_token,
    parse_extensions,
    parse_tokens,
    parse_upgrade,
)
from .request import HeaderItems, MultiDict, Request, check_headers, header_list

GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # section 1.3
VERSION: Final = "13"
_KEY_RE: Final = re.compile("[A-Za-z0-9+/]{22}==")  # section 4.1: 16 bytes of base64

Origins: TypeAlias = Sequence[str] | Literal["*"] | None
"""Which Origins may connect: None for the same host (or no Origin at all), a list, or any."""

# What the handshake itself says; an application's headers must not contradict it.
_OWN_HEADERS: Final = frozenset(
    (
        "connection",
        "upgrade",
        "sec-websocket-accept",
        "sec-websocket-extensions",
        "sec-websocket-key",
        "sec-websocket-protocol",
        "sec-websocket-version",
        "content-length",
        "host",
        "transfer-encoding",
    )
)


class Upgrade(NamedTuple):
    """What a valid opening handshake asked for."""

    key: str
    subprotocols: tuple[str, ...]
    extensions: list[ExtensionOffer]


def accept_value(key: str) -> str:
    """Sec-WebSocket-Accept for a Sec-WebSocket-Key (section 4.2.2, step 5.4)."""
    digest = hashlib.sha1(key.encode("ascii") + GUID).digest()
    return binascii.b2a_base64(digest, newline=False).decode("ascii")


def asks_for_websocket(request: Request) -> bool:
    """Whether the request wants to become a WebSocket, well-formed or not."""
    values = request.headers.get_all("upgrade")
    return values == ["websocket"] or "websocket" in parse_upgrade(values)


def upgrade_required() -> RemoteProtocolError:
    """For a request to a WebSocket's path that is no handshake (RFC 9110 section 15.5.22)."""
    return RemoteProtocolError(
        "this path speaks WebSocket only",
        status=426,
        headers=(
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Version", VERSION),
        ),
    )


def check_upgrade(request: Request, origins: Origins) -> Upgrade:
    """Check the client's handshake (section 4.2.1).

    Raises `RemoteProtocolError` with the status for what is wrong: 400, 403, 405 or 426.
    """
    headers = request.headers
    if request.method != "GET":
        raise RemoteProtocolError(
            "a WebSocket handshake is a GET request", status=405, headers=(("Allow", "GET"),)
        )
    if request.http_version != "1.1":
        raise _bad("a WebSocket handshake needs HTTP/1.1")
    hosts = headers.get_all("host")
    if len(hosts) != 1 or not hosts[0]:
        raise _bad("the Host header is missing")
    if not asks_for_websocket(request):
        raise upgrade_required()
    if not _has_upgrade_token(headers):
        raise _bad("the Connection header has no upgrade token")
    if request.has_body:
        raise _bad("a WebSocket handshake has no body")
    _check_version(headers)
    key = _check_key(headers)
    check_origin(request, origins)
    subprotocols = parse_tokens(headers.get_all("sec-websocket-protocol"), "Sec-WebSocket-Protocol")
    if len(set(subprotocols)) != len(subprotocols):
        raise _bad("the Sec-WebSocket-Protocol header names a subprotocol twice")
    extensions = parse_extensions(
        headers.get_all("sec-websocket-extensions"), "Sec-WebSocket-Extensions"
    )
    return Upgrade(key, tuple(subprotocols), extensions)


def _has_upgrade_token(headers: MultiDict) -> bool:
    values = headers.get_all("connection")
    if values == ["Upgrade"]:
        return True  # as nearly always
    return any(token.lower() == "upgrade" for token in parse_tokens(values, "Connection"))


def _check_version(headers: MultiDict) -> None:
    versions = headers.get_all("sec-websocket-version")
    if len(versions) != 1:
        raise _bad("exactly one Sec-WebSocket-Version header is needed")
    if versions[0] != VERSION:
        raise RemoteProtocolError(
            f"WebSocket version {VERSION} is spoken here",
            status=426,
            headers=(
                ("Sec-WebSocket-Version", VERSION),
                ("Upgrade", "websocket"),
                ("Connection", "Upgrade"),
            ),
        )


def _check_key(headers: MultiDict) -> str:
    keys = headers.get_all("sec-websocket-key")
    if len(keys) != 1:
        raise _bad("exactly one Sec-WebSocket-Key header is needed")
    if _KEY_RE.fullmatch(keys[0]) is None:
        raise _bad("the Sec-WebSocket-Key is not 16 bytes of base64")
    return keys[0]


def check_origin(request: Request, origins: Origins) -> None:
    """Section 10.2, and RFC 6454 section 7.3 for the header.

    Raises `RemoteProtocolError` with 403.
    """
    sent = request.headers.get_all("origin")
    if not sent or origins == "*":
        return
    if len(sent) == 1:
        if origins is None:
            allowed = _same_host(sent[0], request.headers.get("host", ""))
        else:
            allowed = sent[0].lower() in [origin.lower() for origin in origins]
        if allowed:
            return
    raise RemoteProtocolError("this Origin may not connect", status=403)


def check_origins(setting: str, origins: Origins) -> None:
    """Raises `ConfigurationError` for a str that is not "*"."""
    if isinstance(origins, str) and origins != "*":
        raise ConfigurationError(setting, f'must be a list, or "*" for any, not {origins!r}')


def _same_host(origin: str, host: str) -> bool:
    """Whether an Origin names the host and port that the request was sent to."""
    if ":" not in host and origin in (f"https://{host}", f"http://{host}"):
        return True  # as nearly always
    try:
        theirs = urlsplit(origin)
        ours = urlsplit("//" + host)
        default = {"http": 80, "https": 443}.get(theirs.scheme)
        if default is None or theirs.hostname is None:
            return False
        return theirs.hostname == ours.hostname and (theirs.port or default) == (
            ours.port or default
        )
    except ValueError:
        return False


def choose_subprotocol(ours: Sequence[str], theirs: Sequence[str]) -> str | None:
    """The first of ours that the client offers too (section 4.2.2), or None."""
    return next((each for each in ours if each in theirs), None)


def accept_headers(
    upgrade: Upgrade,
    *,
    subprotocol: str | None,
    headers: HeaderItems,
    settings: Deflate | None,
) -> tuple[list[tuple[str, str]], DeflateParameters | None]:
    """The headers of our 101 response (section 4.2.2), and the deflate that was agreed on.

    Raises `LocalProtocolError` for a subprotocol that the client did not offer, or headers that
    are the handshake's own.
    """
    if subprotocol is not None and subprotocol not in upgrade.subprotocols:
        raise LocalProtocolError(
            f"the client did not offer subprotocol {subprotocol!r}, only {upgrade.subprotocols!r}"
        )
    response = [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Accept", accept_value(upgrade.key)),
    ]
    if subprotocol is not None:
        response.append(("Sec-WebSocket-Protocol", subprotocol))
    agreed = None
    if settings is not None:
        chosen = deflate.negotiate(upgrade.extensions, settings)
        if chosen is not None:
            agreed, value = chosen
            response.append(("Sec-WebSocket-Extensions", value))
    response.extend(_application_headers(headers))
    return response, agreed


def is_own_header(name: str) -> bool:
    """Whether a header is what the handshake itself says, and not the application's."""
    return name.lower() in _OWN_HEADERS


def _application_headers(headers: HeaderItems) -> list[tuple[str, str]]:
    check_headers(headers)
    added = header_list(headers)
    for name, _ in added:
        if is_own_header(name):
            raise LocalProtocolError(f"{name} is set by the handshake itself")
    return added


# -- client -----------------------------------------------------------------------------------


def request_headers(
    host: str,
    key: str,
    *,
    subprotocols: Sequence[str],
    origin: str | None,
    headers: HeaderItems,
    settings: Deflate | None,
) -> list[tuple[str, str]]:
    """The headers of a client's opening handshake (section 4.1).

    Raises `LocalProtocolError` for what would not be one.
    """
    if len(set(subprotocols)) != len(subprotocols) or not all(map(is_token, subprotocols)):
        raise LocalProtocolError("subprotocols are different tokens (RFC 6455 section 4.1)")
    request = [
        ("Host", host),
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Key", key),
        ("Sec-WebSocket-Version", VERSION),
    ]
    if origin is not None:
        request.append(("Origin", origin))
    if subprotocols:
        request.append(("Sec-WebSocket-Protocol", ", ".join(subprotocols)))
    if settings is not None:
        request.append(("Sec-WebSocket-Extensions", deflate.offer(settings)))
    request.extend(_application_headers(headers))
    check_headers(request)
    return request


def check_response(
    response: MultiDict, key: str, *, subprotocols: Sequence[str], settings: Deflate | None
) -> tuple[str | None, DeflateParameters | None]:
    """Check the server's 101 response (section 4.1, the numbered list at its end).

    Gives the subprotocol and the deflate agreed on. Raises `RemoteProtocolError`.
    """
    if parse_upgrade(response.get_all("upgrade")) != ["websocket"]:
        raise RemoteProtocolError("the response's Upgrade header is not websocket")
    if not _has_upgrade_token(response):
        raise RemoteProtocolError("the response's Connection header has no upgrade token")
    accepts = response.get_all("sec-websocket-accept")
    if len(accepts) != 1 or accepts[0].strip() != accept_value(key):
        raise RemoteProtocolError("the response's Sec-WebSocket-Accept is wrong")
    agreed = _check_extensions(response, settings)
    chosen = response.get_all("sec-websocket-protocol")
    if not chosen:
        return None, agreed
    if len(chosen) != 1 or chosen[0] not in subprotocols:
        raise RemoteProtocolError("the server chose a subprotocol that was not offered")
    return chosen[0], agreed


def _check_extensions(response: MultiDict, settings: Deflate | None) -> DeflateParameters | None:
    chosen = parse_extensions(
        response.get_all("sec-websocket-extensions"), "Sec-WebSocket-Extensions"
    )
    if not chosen:
        return None
    if settings is None or len(chosen) != 1 or chosen[0].name != deflate.EXTENSION_NAME:
        raise RemoteProtocolError("the server chose an extension that was not offered")
    return deflate.accept_response(chosen[0].parameters, settings)


def _bad(message: str) -> RemoteProtocolError:
    return RemoteProtocolError(message, status=400)
