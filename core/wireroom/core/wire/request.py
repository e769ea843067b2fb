"""An HTTP request as the application sees it, and the response it may give. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, Final, TypeAlias, final
from urllib.parse import parse_qsl, unquote_to_bytes

from ..errors import LocalProtocolError, RemoteProtocolError
from .header_grammar import is_field_value, is_token
from .shared_text import header_names, header_value

Address: TypeAlias = tuple[str, int] | str | None
Certificate: TypeAlias = Mapping[str, Any]
"""A peer's address: host and port, the path of a Unix socket, or None where there is none."""

HeaderItems: TypeAlias = Mapping[str, str] | list[tuple[str, str]] | tuple[tuple[str, str], ...]


@final
class MultiDict(Mapping[str, str]):
    """Names with one or more values each, in the order they came.

    `[name]` and `get` give the first value, `get_all` gives all. With `fold_case` (headers),
    names are compared and kept in lower case.
    """

    __slots__ = ("_fold_case", "_names", "_values")

    def __init__(self, items: list[tuple[str, str]], *, fold_case: bool = False) -> None:
        self._names = tuple([name.lower() if fold_case else name for name, _ in items])
        self._values = tuple([value for _, value in items])
        self._fold_case = fold_case

    @classmethod
    def of_head(cls, items: list[tuple[bytes, bytes]]) -> MultiDict:
        """The headers of a head as it was received; names and text that others have are shared."""
        headers = cls([], fold_case=True)
        names = headers._names = header_names(tuple([name for name, _ in items]))
        headers._values = tuple(
            [header_value(name, raw) for name, (_, raw) in zip(names, items, strict=True)]
        )
        return headers

    def __getitem__(self, name: str) -> str:
        wanted = name.lower() if self._fold_case else name
        if wanted not in self._names:
            raise KeyError(name)
        return self._values[self._names.index(wanted)]

    def __contains__(self, name: object) -> bool:
        wanted = name.lower() if self._fold_case and isinstance(name, str) else name
        return wanted in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(self._names))

    def __len__(self) -> int:
        return len(set(self._names))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.multi_items()!r})"

    def get_all(self, name: str) -> list[str]:
        """Every value of `name`, in order; empty if there is none."""
        wanted = name.lower() if self._fold_case else name
        names = self._names
        if wanted not in names:
            return []
        return [value for each, value in zip(names, self._values, strict=True) if each == wanted]

    def multi_items(self) -> list[tuple[str, str]]:
        """Every name and value, in order."""
        return list(zip(self._names, self._values, strict=True))


_NO_SCOPE: Final[Mapping[str, Any]] = MappingProxyType({})


class Request:
    """One request head.

    `client` is the peer's address as the transport gave
    it, `secure` says whether the transport used TLS; or both as a trusted proxy has passed them
    on. `client_certificate` is what the transport's peer has shown there (a proxy's own, behind
    one), as `ssl.SSLSocket.getpeercert` gives it, or None. Inside another server, `scope` is what
    that says of the request (an ASGI scope), and `user` is whoever it has authenticated, who is the
    session's user if the application names no other.
    """

    __slots__ = (
        "_cookies",
        "_path_params",
        "_query_params",
        "client",
        "client_certificate",
        "headers",
        "http_version",
        "method",
        "scope",
        "secure",
        "target",
        "user",
    )

    def __init__(
        self,
        *,
        method: str,
        target: str,
        http_version: str,
        headers: list[tuple[str, str]] | MultiDict,
        client: Address = None,
        secure: bool = False,
    ) -> None:
        self.method = method
        self.target = target
        self.http_version = http_version
        if isinstance(headers, list):
            headers = MultiDict(headers, fold_case=True)
        self.headers = headers
        self.client = client
        self.secure = secure
        self.client_certificate: Certificate | None = None
        self.scope: Mapping[str, Any] = _NO_SCOPE
        self.user: Any = None
        self._path_params: dict[str, Any] | None = None
        self._query_params: MultiDict | None = None
        self._cookies: dict[str, str] | None = None
        _decode_path(self.raw_path)  # raises what it raises now, and never again

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.target}>"

    @property
    def has_body(self) -> bool:
        """Whether a body follows the head (RFC 9112 section 6.3)."""
        headers = self.headers
        if "transfer-encoding" in headers:
            return True
        return "content-length" in headers and headers["content-length"] != "0"

    @property
    def raw_path(self) -> str:
        """The path of the target, as it was sent."""
        return _split_target(self.target)[0]

    @property
    def path(self) -> str:
        """The path, percent-decoded."""
        return _decode_path(self.raw_path)

    @property
    def query_string(self) -> str:
        """What follows the question mark."""
        return _split_target(self.target)[1]

    @property
    def path_params(self) -> dict[str, Any]:
        """The path's parameters, converted as its pattern says; empty before routing."""
        if self._path_params is None:
            self._path_params = {}
        return self._path_params

    @path_params.setter
    def path_params(self, path_params: dict[str, Any]) -> None:
        self._path_params = path_params or None  # most paths have none

    @property
    def query_params(self) -> MultiDict:
        """The query string's names and values."""
        if self._query_params is None:
            self._query_params = MultiDict(parse_qsl(self.query_string, keep_blank_values=True))
        return self._query_params

    @property
    def cookies(self) -> dict[str, str]:
        """The cookies sent (RFC 6265 section 4.2); of a name given twice, the first."""
        if self._cookies is None:
            self._cookies = _parse_cookies(self.headers.get_all("cookie"))
        return self._cookies


def _parse_cookies(values: list[str]) -> dict[str, str]:
    cookies: dict[str, str] = {}
    for value in values:
        for pair in value.split(";"):
            name, equals, text = pair.partition("=")
            name = name.strip()
            if equals and name:
                cookies.setdefault(name, _unquote(text.strip()))
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
