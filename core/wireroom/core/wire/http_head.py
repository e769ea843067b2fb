"""HTTP heads, by h11: requests in and responses out (server), and the other way (client). Pure.

h11 parses, and writes all but the 101; what is added here are the bounds that it does not keep
(its size limit covers incomplete heads only), a status for each thing that can be wrong, and the
bytes that follow a head. An object of this file is dropped at the upgrade.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias, cast, final

import h11

from ..errors import LocalProtocolError, RemoteProtocolError
from ..limits import Limits
from .header_grammar import is_host
from .request import Address, MultiDict, Request, Response, header_list, phrase
from .shared_text import shared_text


def _decode(pairs: h11._headers.Headers) -> list[tuple[str, str]]:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in pairs]


_HEADS: Final = (h11.Request, h11.Response, h11.InformationalResponse)

Answer: TypeAlias = tuple[int, list[tuple[str, str]], bytes]
"""A server's response: status, headers, body."""


class _HeadReader:
    """Feeds h11 and keeps the bounds of one head at a time."""

    def __init__(self, role: type[h11._util.Sentinel], limits: Limits) -> None:
        self._connection = h11.Connection(role, max_incomplete_event_size=limits.head_bytes_max)
        self._limits = limits
        self._head_bytes = 0

    @property
    def receiving(self) -> bool:
        """Whether a part of a head has come."""
        return self._head_bytes > 0

    @property
    def trailing_data(self) -> bytes:
        """What followed the last head: frames, after an upgrade."""
        return self._connection.trailing_data[0]

    def _next_event(self, data: bytes) -> h11.Event | type[h11._util.Sentinel]:
        """Raises `RemoteProtocolError` with a status for what is no head within the bounds."""
        try:
            if data:
                self._head_bytes += len(data)
                self._connection.receive_data(data)
            event = self._connection.next_event()
        except h11.RemoteProtocolError as error:
            if error.error_status_hint == 431:
                raise self._too_large() from error
            if error.error_status_hint == 501:  # another transfer coding than chunked
                raise RemoteProtocolError(str(error), status=501) from error
            raise RemoteProtocolError(f"malformed head: {error}", status=400) from error
        except (UnicodeError, ValueError) as error:
            raise RemoteProtocolError("malformed head", status=400) from error
        if isinstance(event, _HEADS):
            self._check_bounds(len(event.headers))
        return event

    def _check_bounds(self, headers: int) -> None:
        rest = len(self.trailing_data)
        if self._head_bytes - rest > self._limits.head_bytes_max:
            raise self._too_large()
        if headers > self._limits.head_headers_max:
            raise RemoteProtocolError(
                f"more than {self._limits.head_headers_max} header fields", status=431
            )
        self._head_bytes = rest

    def _too_large(self) -> RemoteProtocolError:
        return RemoteProtocolError(
            f"the head has more than {self._limits.head_bytes_max} bytes", status=431
        )


@final
class RequestReader(_HeadReader):
    """The server's side: one request after another on a connection."""

    def __init__(self, limits: Limits) -> None:
        super().__init__(h11.SERVER, limits)
        self._has_body = False
        self._is_complete = True  # whether h11 has seen the end of the latest request
        self.answered = False  # whether a request was answered, and this is the next

    def receive_data(self, data: bytes, *, client: Address, secure: bool) -> Request | None:
        """Take bytes; the next complete request head, or None until there is one.

        Raises `RemoteProtocolError` with the HTTP status that the peer should get.
        """
        event = self._next_event(data)
        if not isinstance(event, h11.Request):
            return None
        try:
            request = Request(
                method=shared_text(event.method),
                target=event.target.decode("ascii"),
                http_version=shared_text(event.http_version),
                headers=MultiDict.of_head(event.headers.raw_items()),
                client=client,
                secure=secure,
            )
        except UnicodeDecodeError as error:
            raise RemoteProtocolError("the request target is not ASCII", status=400) from error
        check_host(request)
        self._has_body = request.has_body
        self._is_complete = False
        return request

    def _complete(self) -> None:
        """Have h11 see the end of a request without a body, which a response needs."""
        if not self._is_complete and not self._has_body:
            self._connection.next_event()  # EndOfMessage
        self._is_complete = True

    @property
    def keeps_alive(self) -> bool:
        """Whether another request may follow the response to this one (RFC 9112 section 9.3)."""
        if self._has_body:
            return False  # nobody reads it, and it is not worth reading to its end
        self._complete()
        return self._connection.their_state not in (h11.MUST_CLOSE, h11.ERROR)

    def respond(self, request: Request | None, response: Response, *, close: bool) -> bytes:
        """The bytes of a response; `request` is None if there was no readable request."""
        self._complete()
        headers, body = response_parts(response)
        if close:
            headers.append(("Connection", "close"))
        message = h11.Response(
            status_code=response.status,
            reason=phrase(response.status),
            headers=_encode(headers),
        )
        writer = self._connection
        if request is None:
            # After an error h11 answers nothing but the error, which is what this is.
            writer = h11.Connection(h11.SERVER)
        data = writer.send(message) or b""
        if body and (request is None or request.method != "HEAD"):
            data += writer.send(h11.Data(data=body)) or b""
        return data + (writer.send(h11.EndOfMessage()) or b"")

    def next_request(self) -> None:
        """Start over after a response on a connection that is kept alive."""
        self.answered = True
        self._connection.start_next_cycle()
        self._head_bytes = len(self.trailing_data)

    def switch_protocols(self, headers: list[tuple[str, str]]) -> bytes:
        """The 101 response (RFC 6455 section 4.2.2), of headers that have been checked.

        Not by h11, whose last word is the request: it would look at each header once more.
        """
        lines = "".join([f"{name}: {value}\r\n" for name, value in headers])
        return f"HTTP/1.1 101 Switching Protocols\r\n{lines}\r\n".encode("latin-1")


def check_host(request: Request) -> None:
    """Raises `RemoteProtocolError` for a Host header that names no host."""
    host = request.headers.get("host")
    if host and not is_host(host):
        raise RemoteProtocolError("the Host header is malformed", status=400)


def response_parts(response: Response) -> tuple[list[tuple[str, str]], bytes]:
    """A response's headers, with those that describe its body, and its body."""
    headers = header_list(response.headers)
    if response.status in (204, 304):
        return headers, b""
    body = response.body_bytes
    if body and not any(name.lower() == "content-type" for name, _ in headers):
        headers.append(("Content-Type", response.content_type))
    headers.append(("Content-Length", str(len(body))))
    return headers, body


@final
class ResponseReader(_HeadReader):
    """The client's side: one request, its response, and what follows."""

    def __init__(self, limits: Limits) -> None:
        super().__init__(h11.CLIENT, limits)
        self._body_bytes_max: Final = limits.head_bytes_max
        self._body = b""
        self._response: h11.Response | None = None

    def request(self, target: str, headers: list[tuple[str, str]]) -> bytes:
        """The bytes of a GET request without a body. Raises `LocalProtocolError`."""
        try:
            data = self._connection.send(
                h11.Request(method="GET", target=target, headers=_encode(headers))
            )
        except h11.LocalProtocolError as error:
            raise LocalProtocolError(str(error)) from error
        return (data or b"") + (self._connection.send(h11.EndOfMessage()) or b"")

    def receive_data(self, data: bytes) -> Answer | None:
        """Take bytes; status, headers and body once they are there.

        The body of a refusal is cut at the bound for a head. Raises `RemoteProtocolError`.
        """
        return self._answer(self._next_event(data))

    def receive_eof(self) -> Answer:
        """The stream has ended, as a refusal's body may. Raises `RemoteProtocolError`."""
        try:
            self._connection.receive_data(b"")
            answer = self._answer(self._connection.next_event())
        except h11.RemoteProtocolError:
            answer = None
        if answer is None:
            raise RemoteProtocolError("the connection ended within the response")
        return answer

    def _answer(self, event: h11.Event | type[h11._util.Sentinel]) -> Answer | None:
        while True:
            if isinstance(event, h11.InformationalResponse):
                if event.status_code == 101:
                    return 101, _decode(event.headers), b""
            elif isinstance(event, h11.Response):
                self._response = event
            elif isinstance(event, h11.Data):
                data = bytes(cast(Any, event).data)  # h11 says `bytes`, and gives a bytearray
                self._body = (self._body + data)[: self._body_bytes_max]
            elif isinstance(event, h11.EndOfMessage) and self._response is not None:
                return self._response.status_code, _decode(self._response.headers), self._body
            else:
                return None
            event = self._next_event(b"")


def _encode(headers: list[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("ascii"), value.encode("latin-1")) for name, value in headers]
