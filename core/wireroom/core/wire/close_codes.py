"""Close codes (RFC 6455 section 7.4 and the IANA registry). Pure values."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from ..errors import LocalProtocolError


class CloseCode(IntEnum):
    """The registered close codes."""

    NORMAL_CLOSURE = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED_DATA = 1003
    NO_STATUS_RECEIVED = 1005  # never on the wire: the Close frame had no code
    ABNORMAL_CLOSURE = 1006  # never on the wire: there was no Close frame
    INVALID_PAYLOAD_DATA = 1007
    POLICY_VIOLATION = 1008
    MESSAGE_TOO_BIG = 1009
    MANDATORY_EXTENSION = 1010
    INTERNAL_ERROR = 1011
    SERVICE_RESTART = 1012
    TRY_AGAIN_LATER = 1013
    BAD_GATEWAY = 1014
    TLS_HANDSHAKE = 1015  # never on the wire


_ON_THE_WIRE: Final = frozenset(CloseCode) - {
    CloseCode.NO_STATUS_RECEIVED,
    CloseCode.ABNORMAL_CLOSURE,
    CloseCode.TLS_HANDSHAKE,
}

REASON_BYTES_MAX: Final = 123  # a control frame's 125 bytes less the code (section 5.5)


def may_be_on_the_wire(code: int) -> bool:
    """Whether a Close frame may carry `code`: registered, or 3000 to 4999 (section 7.4.2)."""
    return code in _ON_THE_WIRE or 3000 <= code <= 4999


def may_be_sent(code: int, *, client: bool) -> bool:
    """Whether an endpoint of this role may send `code`. 1010 is the client's alone (7.4.1)."""
    return may_be_on_the_wire(code) and (client or code != CloseCode.MANDATORY_EXTENSION)


def check_close(code: int, reason: str) -> None:
    """Raises `LocalProtocolError` for a Close that a server may not send."""
    if not may_be_sent(code, client=False):
        raise LocalProtocolError(f"close code {code} may not be sent (RFC 6455 section 7.4)")
    if len(reason.encode()) > REASON_BYTES_MAX:
        raise LocalProtocolError(f"a close reason has at most {REASON_BYTES_MAX} bytes")
