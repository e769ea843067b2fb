"""Reads HTTP responses with h11's client, as a browser would."""

from __future__ import annotations

import dataclasses
from itertools import chain, repeat

import h11


@dataclasses.dataclass(frozen=True)
class HttpResponse:
    """One response; names of headers are lower-case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def closes(self) -> bool:
        """Whether the server says that it will close."""
        return self.headers.get("connection", "").lower() == "close"


def read_responses(data: bytes, *methods: str) -> list[HttpResponse]:
    """All responses in `data`, to requests of these methods (GET when they are used up).

    Raises `h11.RemoteProtocolError` for what is none, and `AssertionError` for a cut one.
    """
    responses: list[HttpResponse] = []
    client = h11.Connection(h11.CLIENT)
    client.receive_data(data)
    for method in chain(methods, repeat("GET")):
        if not client.trailing_data[0]:
            return responses
        client.send(h11.Request(method=method, target="/", headers=[("Host", "server.example")]))
        client.send(h11.EndOfMessage())
        responses.append(_read_response(client))
        if h11.MUST_CLOSE in (client.our_state, client.their_state):
            assert not client.trailing_data[0], "bytes after the last response"
            return responses
        client.start_next_cycle()
    raise AssertionError("unreachable")


def read_response(data: bytes, method: str = "GET") -> HttpResponse:
    """The only response in `data`."""
    (response,) = read_responses(data, method)
    return response


def _read_response(client: h11.Connection) -> HttpResponse:
    status, headers, body = 0, {}, b""
    while True:
        event = client.next_event()
        assert event is not h11.NEED_DATA, "the response is cut"
        if isinstance(event, h11.Response):
            status = event.status_code
            headers = {name.decode(): value.decode() for name, value in event.headers}
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            return HttpResponse(status, headers, body)
