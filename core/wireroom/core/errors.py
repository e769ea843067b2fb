"""What Wireroom raises. Pure values; imports nothing of ours.

A peer's mistake never raises out of the hub: it becomes an HTTP error response or a Close frame.
What is raised is the caller's mistake (`LocalProtocolError`, `ConfigurationError`) or news that
the caller has to act on (`SessionClosedError`, `IdsExhaustedError`).
"""

from __future__ import annotations

from collections.abc import Mapping


class WireroomError(Exception):
    """The base of everything that Wireroom raises on purpose."""


class ConfigurationError(WireroomError, ValueError):
    """A setting or a registration that cannot work; raised before the server starts.

    `setting` names what has to be changed.
    """

    def __init__(self, setting: str, problem: str) -> None:
        super().__init__(f"{setting}: {problem}")
        self.setting = setting


class LocalProtocolError(WireroomError):
    """Our caller asked for something that the protocol does not allow now (or ever)."""


class RemoteProtocolError(WireroomError):
    """The peer broke the protocol. Used inside the core and by clients, never raised by the hub.

    `close_code` is what RFC 6455 section 7.4 has for it (0 before the upgrade), `status` is the
    HTTP status for it (0 after the upgrade), `headers` go with that status.
    """

    def __init__(
        self,
        message: str,
        *,
        close_code: int = 0,
        status: int = 0,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.close_code = close_code
        self.status = status
        self.headers = headers


class SessionClosedError(WireroomError):
    """The session has ended, or is closing, so nothing more can be sent on it.

    `code` and `reason` say how it closed, as far as that is known.
    """

    def __init__(self, message: str, *, code: int = 1006, reason: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason


class RequestFailedError(WireroomError):
    """The peer answered a request with an error, or with data of another type.

    `code` is the error's, or `invalid_data`.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class RefusedError(WireroomError):
    """A server refused a client's handshake: it answered with something else than 101.

    `status`, `headers` and `body` are its answer; a long body is cut. Redirects are not followed.
    """

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        super().__init__(f"the server refused the handshake with status {status}")
        self.status = status
        self.headers = headers
        self.body = body


class IdsExhaustedError(WireroomError):
    """No fd is free for a new connection.

    `response` is the complete HTTP response (503) that the transport should write before it
    closes the socket.
    """

    def __init__(self, message: str, *, response: bytes) -> None:
        super().__init__(message)
        self.response = response


class BackplaneAwayError(WireroomError):
    """The backplane is away, and what would have to reach other nodes is refused, or the queue of
    what waits for it is full. Nobody was sent anything."""
