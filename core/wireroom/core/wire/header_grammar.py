"""The grammars of the handshake's headers (RFC 9110 section 5.6, RFC 6455 section 9.1). Pure.

Everything raises `RemoteProtocolError` (status 400) for what does not match.
"""

from __future__ import annotations

import functools
import re
from typing import Final, NamedTuple, TypeAlias

from ..errors import RemoteProtocolError

ExtensionParameter: TypeAlias = tuple[str, str | None]

_TOKEN: Final = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_TOKEN_RE: Final = re.compile(_TOKEN)
_QUOTED: Final = r'"(?:[^"\\\x00-\x08\x0a-\x1f\x7f]|\\[\t\x20-\x7e\x80-\xff])*"'
# Section 9.1: after unescaping, a quoted value must be a token too.
_PARAMETER_RE: Final = re.compile(
    rf"[ \t]*;[ \t]*({_TOKEN})(?:[ \t]*=[ \t]*(?:({_TOKEN})|({_QUOTED})))?"
)

# RFC 9112 section 3.2: uri-host [ ":" port ], with the uri-host of RFC 3986 section 3.2.2.
_NAME_CHARACTER: Final = r"[A-Za-z0-9\-._~!$&'()*+,;=]"
_HOST_RE: Final = re.compile(
    rf"(?:\[(?:{_NAME_CHARACTER}|:)+\]|(?:{_NAME_CHARACTER}|%[0-9A-Fa-f]{{2}})+)(?::[0-9]*)?"
)
# RFC 9110 section 5.5, without leading and trailing whitespace.
_FIELD_VALUE_RE: Final = re.compile(r"(?:[\x21-\x7e\x80-\xff](?:[ \t]*[\x21-\x7e\x80-\xff])*)?")


class ExtensionOffer(NamedTuple):
    """One element of Sec-WebSocket-Extensions."""

    name: str
    parameters: tuple[ExtensionParameter, ...]


def is_token(text: str) -> bool:
    """Whether `text` is a token (RFC 9110 section 5.6.2)."""
    return _TOKEN_RE.fullmatch(text) is not None


def is_host(text: str) -> bool:
    """Whether `text` is a host with or without a port (RFC 9112 section 3.2), and not empty."""
    return _HOST_RE.fullmatch(text) is not None


def is_field_value(text: str) -> bool:
    """Whether `text` can be sent as a header's value (RFC 9110 section 5.5)."""
    return _FIELD_VALUE_RE.fullmatch(text) is not None


def parse_tokens(values: list[str], header: str) -> list[str]:
    """The tokens of a comma-separated list, over all its header lines, in order."""
    tokens: list[str] = []
    for value in values:
        for part in value.split(","):
            token = part.strip(" \t")
            if not token:
                continue  # RFC 9110 section 5.6.1.2: empty elements are ignored
            if not is_token(token):
                raise _malformed(header)
            tokens.append(token)
    return tokens


def parse_upgrade(values: list[str]) -> list[str]:
    """The protocol names of Upgrade, lower-cased; versions (`name/version`) are kept."""
    protocols: list[str] = []
    for value in values:
        for part in value.split(","):
            protocol = part.strip(" \t")
            if protocol:
                protocols.append(protocol.lower())
    return protocols


def parse_extensions(values: list[str], header: str) -> list[ExtensionOffer]:
    """The elements of Sec-WebSocket-Extensions, over all its header lines, in order."""
    return [offer for value in values for offer in _parse_extensions(value, header)]


@functools.lru_cache(maxsize=64)  # there are about as many of them as there are browsers
def _parse_extensions(value: str, header: str) -> tuple[ExtensionOffer, ...]:
    offers: list[ExtensionOffer] = []
    position = 0
    end = len(value)
    while True:
        position = _skip(value, position, " \t,")
        if position == end:
            return tuple(offers)
        offer, position = _parse_extension(value, position, header)
        offers.append(offer)
        position = _skip(value, position, " \t")
        if position < end and value[position] != ",":
            raise _malformed(header)


def _parse_extension(value: str, position: int, header: str) -> tuple[ExtensionOffer, int]:
    name = _TOKEN_RE.match(value, position)
    if name is None:
        raise _malformed(header)
    position = name.end()
    parameters: list[ExtensionParameter] = []
    while (parameter := _PARAMETER_RE.match(value, position)) is not None:
        position = parameter.end()
        setting = parameter[2]
        if parameter[3] is not None:
            setting = re.sub(r"\\(.)", r"\1", parameter[3][1:-1])
            if not is_token(setting):
                raise _malformed(header)
        parameters.append((parameter[1], setting))
    return ExtensionOffer(name[0], tuple(parameters)), position


def _skip(value: str, position: int, characters: str) -> int:
    while position < len(value) and value[position] in characters:
        position += 1
    return position


def _malformed(header: str) -> RemoteProtocolError:
    return RemoteProtocolError(f"the {header} header is malformed", status=400)
