"""A URL that is text and can be asked for its parts (RFC 3986 section 3). Pure."""

from __future__ import annotations

import re
from typing import Final, final

from .request import Request

PORT_MAX: Final = 65_535

# RFC 3986 appendix B: it matches any text at all.
_URL_RE: Final = re.compile(
    r"(?:(?P<scheme>[^:/?#]+):)?(?://(?P<netloc>[^/?#]*))?(?P<path>[^?#]*)"
    r"(?:\?(?P<query>[^#]*))?(?:#(?P<fragment>.*))?",
    re.DOTALL,
)
_PORT_RE: Final = re.compile(r"[0-9]{1,5}")


@final
class URL(str):
    """A URL. Its parts are as they were written, percent-encoding included; none of them raises.

    What is not there is `""`, or None for `hostname`, `port`, `username` and `password`.
    """

    __slots__ = ()

    @property
    def scheme(self) -> str:
        """`ws` or `wss` for a WebSocket, in lower case."""
        return self._part("scheme").lower()

    @property
    def netloc(self) -> str:
        """Host and port (and user) in one."""
        return self._part("netloc")

    @property
    def hostname(self) -> str | None:
        """The host in lower case, an IPv6 address without its brackets."""
        host, _ = self._host_and_port()
        return host.removeprefix("[").removesuffix("]").lower() or None

    @property
    def port(self) -> int | None:
        """The port, if it is given and can be one."""
        _, port = self._host_and_port()
        if _PORT_RE.fullmatch(port) is None or int(port) > PORT_MAX:
            return None
        return int(port)

    @property
    def username(self) -> str | None:
        """What stands before `@`, up to a colon."""
        userinfo, at, _ = self.netloc.rpartition("@")
        return userinfo.partition(":")[0] if at else None

    @property
    def password(self) -> str | None:
        """What stands between that colon and `@`."""
        _, colon, password = self.netloc.rpartition("@")[0].partition(":")
        return password if colon else None

    @property
    def path(self) -> str:
        """The path."""
        return self._part("path")

    @property
    def query(self) -> str:
        """What follows the question mark."""
        return self._part("query")

    @property
    def fragment(self) -> str:
        """What follows the hash sign."""
        return self._part("fragment")

    def _part(self, name: str) -> str:
        match = _URL_RE.fullmatch(self)
        return "" if match is None else match[name] or ""

    def _host_and_port(self) -> tuple[str, str]:
        """Section 3.2: [ userinfo "@" ] host [ ":" port ]; colons in brackets are the host's."""
        netloc = self.netloc.rpartition("@")[2]
        before, colon, port = netloc.rpartition(":")
        return (before, port) if colon and "]" not in port else (netloc, "")


def websocket_url(request: Request) -> URL:
    """The URL that a handshake was made for, as far as the request tells."""
    scheme = "wss" if request.secure else "ws"
    netloc = request.headers.get("host", "")
    if not request.target.startswith("/"):
        netloc = URL(request.target).netloc  # which replaces Host (RFC 9112 section 3.2.2)
    query = f"?{request.query_string}" if request.query_string else ""
    return URL(f"{scheme}://{netloc}{request.raw_path}{query}")
