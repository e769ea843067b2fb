"""An HTTP request as the application sees it, and the response it may give. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from functools import cached_property
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, Final, TypeAlias, final
from urllib.parse import parse_qsl, unquote_to_bytes

from ..errors import LocalProtocolError, RemoteProtocolError
from .header_grammar import is_field_value, is_token

Address: TypeAlias = tuple[str, int] | str | None
Certificate: TypeAlias = Mapping[str, Any]
"""A peer's address: host and port, the path of a Unix socket, or None where there is none."""

HeaderItems: TypeAlias = Mapping[str, str] | list[tuple[str, str]] | tuple[tuple[str, str], ...]


# What nearly every handshake says. Sessions keep their headers, and share these strings.
_COMMON: Final = {
    each: each
    for each in (
        *("accept-encoding", "accept-language", "cache-control", "connection", "cookie", "host"),
        *("origin", "pragma", "sec-websocket-extensions", "sec-websocket-key", "upgrade"),
        *("sec-websocket-protocol", "sec-websocket-version", "user-agent", "x-forwarded-for"),
        *("13", "Upgrade", "gzip, deflate, br", "keep-alive, Upgrade", "no-cache", "websocket"),
        "permessage-deflate; client_max_window_bits",
    )
}


def _shared(name: str, value: str) -> tuple[str, str]:
    name = name.lower()
    return _COMMON.get(name, name), _COMMON.get(value, value)


@final
class MultiDict(Mapping[str, str]):
    """Names with one or more values each, in the order they came.

    `[name]` and `get` give the first value, `get_all` gives all. With `fold_case` (headers),
    names are compared and kept in lower case.
    """

    __slots__ = ("_fold_case", "_items")

    def __init__(self, items: list[tuple[str, str]], *, fold_case: bool = False) -> None:
        self._items = [_shared(name, value) for name, value in items] if fold_case else items
        self._fold_case = fold_case

    def __getitem__(self, name: str) -> str:
        wanted = name.lower() if self._fold_case else name
        for each, value in self._items:
            if each == wanted:
                return value
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(dict(self._items))

    def __len__(self) -> int:
        return len(dict(self._items))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._items!r})"

    def get_all(self, name: str) -> list[str]:
        """Every value of `name`, in order; empty if there is none."""
        wanted = name.lower() if self._fold_case else name
        return [value for each, value in self._items if each == wanted]

    def multi_items(self) -> list[tuple[str, str]]:
        """Every name and value, in order."""
        return list(self._items)


_NO_SCOPE: Final[Mapping[str, Any]] = MappingProxyType({})


class Request:
    """One request head. `path` is percent-decoded, `raw_path` is as it was sent.

    `path_params` is filled in by routing. `client` is the peer's address as the transport gave
    it, `secure` says whether the transport used TLS; or both as a trusted proxy has passed them
    on. `client_certificate` is what the transport's peer has shown there (a proxy's own, behind
    one), as `ssl.SSLSocket.getpeercert` gives it, or None. Inside another server, `scope` is what
    that says of the request (an ASGI scope), and `user` is whoever it has authenticated, who is the
    session's user if the application names no other.
    """

    def __init__(
        self,
        *,
        method: str,
        target: str,
        http_version: str,
        headers: list[tuple[str, str]],
        client: Address = None,
        secure: bool = False,
    ) -> None:
        self.method = method
        self.target = target
        self.http_version = http_version
        self.headers = MultiDict(headers, fold_case=True)
        self.client = client
        self.secure = secure
        self.raw_path, self.query_string = _split_target(target)
        self.path = _decode_path(self.raw_path)
        self.path_params: dict[str, Any] = {}
        self.client_certificate: Certificate | None = None
        self.scope: Mapping[str, Any] = _NO_SCOPE
        self.user: Any = None

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.target}>"

    @property
    def has_body(self) -> bool:
        """Whether a body follows the head (RFC 9112 section 6.3)."""
        headers = self.headers
        return "transfer-encoding" in headers or headers.get("content-length", "0") != "0"

    @cached_property
    def query_params(self) -> MultiDict:
        """The query string's names and values."""
        return MultiDict(parse_qsl(self.query_string, keep_blank_values=True))

    @cached_property
    def cookies(self) -> dict[str, str]:
        """The cookies sent (RFC 6265 section 4.2); of a name given twice, the first."""
        cookies: dict[str, str] = {}
        for header in self.headers.get_all("cookie"):
            for pair in header.split(";"):
                name, equals, value = pair.partition("=")
                name = name.strip()
                if equals and name:
                    cookies.setdefault(name, _unquote(value.strip()))
        return cookies


def _unquote(value: str) -> str:
    return value[1:-1] if len(value) >= 2 and value[0] == value[-1] == '"' else value


def _split_target(target: str) -> tuple[str, str]:
    """Path and query of a request target (RFC 9112 section 3.2), absolute form included."""
    if "#" in target:
        raise RemoteProtocolError("the request target has a fragment", status=400)
    path = target
    if not target.startswith("/"):
        scheme, separator, rest = target.partition("://")
        if not separator or scheme.lower() not in ("http", "https", "ws", "wss"):
            raise RemoteProtocolError("the request target is not a path", status=400)
        authority, _, _ = rest.partition("?")
        slash = authority.find("/")
        path = "/" + rest[len(authority) :] if slash < 0 else rest[slash:]
    path, _, query = path.partition("?")
    return path, query


def _decode_path(raw_path: str) -> str:
    if "%" not in raw_path:
        return raw_path
    try:
        return unquote_to_bytes(raw_path).decode()
    except UnicodeDecodeError as error:
        raise RemoteProtocolError("the path is not UTF-8", status=400) from error


_FRAMING_HEADERS: Final = frozenset(("content-length", "transfer-encoding"))


@dataclasses.dataclass(frozen=True, slots=True)
class Response:
    """An HTTP response. `content_type` is left out of a response without a body.

    The headers that say where it ends, and whether the connection does, are the server's own.
    Raises `LocalProtocolError` for those, and for what HTTP does not allow.
    """

    status: int = 200
    body: bytes | str = b""
    headers: HeaderItems = ()
    content_type: str = "text/plain; charset=utf-8"

    def __post_init__(self) -> None:
        if not 200 <= self.status <= 599:
            raise LocalProtocolError(f"{self.status} is not a final HTTP status")
        if not isinstance(self.body, str | bytes):
            raise LocalProtocolError(f"a body is str or bytes, not {type(self.body).__name__}")
        try:
            _ = self.body_bytes
        except UnicodeEncodeError as error:
            raise LocalProtocolError("the body has text that is no UTF-8") from error
        check_headers({"Content-Type": self.content_type})
        check_headers(self.headers)
        for name, value in header_list(self.headers):
            key = name.lower()
            if key in _FRAMING_HEADERS or (key == "connection" and value.lower() != "upgrade"):
                raise LocalProtocolError(f"{name} is set by the server itself")

    @property
    def body_bytes(self) -> bytes:
        """The body, encoded."""
        return self.body.encode() if isinstance(self.body, str) else self.body


def header_list(headers: HeaderItems) -> list[tuple[str, str]]:
    """Headers as a list of pairs, whichever way they were given."""
    return list(headers.items()) if isinstance(headers, Mapping) else list(headers)


def check_headers(headers: HeaderItems) -> None:
    """Raises `LocalProtocolError` for what would not be a header of its own on the wire."""
    for name, value in header_list(headers):
        if not is_token(name):
            raise LocalProtocolError(f"{name!r} is not a header name")
        if not is_field_value(value):
            raise LocalProtocolError(f"the value of header {name} cannot be sent: {value!r}")


def phrase(status: int) -> str:
    """The reason phrase of a status, or nothing for one that has none."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
