"""The head of a request that another server has read, as bytes again. Pure."""

from __future__ import annotations

import re
from typing import Final

from ..errors import LocalProtocolError
from .header_grammar import is_token
from .request import HeaderItems, check_headers, header_list

_TARGET_RE: Final = re.compile(r"[\x21-\x7e]+")
_HTTP_VERSIONS: Final = ("1.0", "1.1")


def request_head(
    method: str, target: str, headers: HeaderItems, http_version: str = "1.1"
) -> bytes:
    """A request line and headers (RFC 9112 section 2.1), for who is to serve the request after all.

    `target` is as it was sent, with its query and percent-encoded. Headers keep their order, and
    those with one name stay apart; text is latin-1, as it is in WSGI. Whitespace around a value is
    no part of it. With `head + rest`, where `rest` is what was read after the head,
    `Server.adopt(sock, received)` serves the request.

    Raises `LocalProtocolError` for what would be read as something else: line ends, for example.
    """
    if not is_token(method):
        raise LocalProtocolError(f"{method!r} is not a method")
    if _TARGET_RE.fullmatch(target) is None:
        raise LocalProtocolError(f"{target!r} is not a request target as it is sent")
    if http_version not in _HTTP_VERSIONS:
        raise LocalProtocolError(
            f"the HTTP version must be {' or '.join(_HTTP_VERSIONS)}, not {http_version!r}"
        )
    stripped = [(name, value.strip(" \t")) for name, value in header_list(headers)]
    check_headers(stripped)
    lines = [f"{method} {target} HTTP/{http_version}"]
    lines += [f"{name}: {value}" for name, value in stripped]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")
