"""HTTP heads: their bounds, what garbage gets, pipelining, bodies, and responses on the wire."""

from __future__ import annotations

import contextlib
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from framings import CUTS, Cut, byte_by_byte, whole
from heads import head, upgrade_request, upgrade_response
from http_responses import HttpResponse, read_response
from wireroom.core.errors import LocalProtocolError, RemoteProtocolError
from wireroom.core.limits import Limits
from wireroom.core.wire.http_head import Answer, RequestReader, ResponseReader
from wireroom.core.wire.request import Request, Response

HOST = {"Host": "a"}
GET = head("GET /path?query HTTP/1.1", HOST)
SMALL = Limits(head_bytes_max=200, head_headers_max=5)


@pytest.fixture(params=CUTS, ids=lambda cut: cut.__name__)
def cut(request: pytest.FixtureRequest) -> Cut:
    chosen: Cut = request.param
    return chosen


def read(reader: RequestReader, data: bytes) -> Request | None:
    return reader.receive_data(data, client=("10.0.0.1", 4000), secure=False)


def requests(data: list[bytes], limits: Limits | None = None) -> list[Request]:
    """Every request until the connection would end, each answered by 204."""
    reader = RequestReader(limits or Limits())
    made: list[Request] = []
    for piece in data:
        request = read(reader, piece)
        while request is not None:
            made.append(request)
            if not reader.keeps_alive:
                return made
            reader.respond(request, Response(204), close=False)
            reader.next_request()
            request = read(reader, b"")
    return made


def refusal(data: bytes, limits: Limits | None = None, cut: Cut = whole) -> RemoteProtocolError:
    with pytest.raises(RemoteProtocolError) as caught:
        requests(cut(data), limits)
    return caught.value


def padded(size: int, extra: int = 1) -> bytes:
    """A head of exactly `size` bytes."""
    made = head("GET / HTTP/1.1", HOST | {f"X-{number}": "" for number in range(extra)})
    return made[:-4] + b"a" * (size - len(made)) + made[-4:]


# -- reading -------------------------------------------------------------------------------------


def test_a_request_is_read(cut: Cut) -> None:
    (request,) = requests(cut(head("POST /a%20b?c HTTP/1.0", {"X-A": ["1", "2"]})))
    assert (request.method, request.target, request.http_version) == ("POST", "/a%20b?c", "1.0")
    assert (request.path, request.query_string) == ("/a b", "c")
    assert request.headers.get_all("x-a") == ["1", "2"]
    assert (request.client, request.secure) == (("10.0.0.1", 4000), False)


def test_latin_1_values_survive(cut: Cut) -> None:
    (request,) = requests(cut(head("GET / HTTP/1.1", HOST | {"X": "ü\xff"})))
    assert request.headers["x"] == "ü\xff"


def test_pipelined_requests_come_one_by_one(cut: Cut) -> None:
    heads = [head(f"GET /{number} HTTP/1.1", HOST) for number in range(50)]
    assert [each.path for each in requests(cut(b"".join(heads)))] == [f"/{n}" for n in range(50)]


def test_receiving_says_whether_a_part_of_a_head_has_come() -> None:
    reader = RequestReader(Limits())
    receiving = [reader.receiving]
    for data in byte_by_byte(GET)[:-1]:
        assert read(reader, data) is None
        receiving.append(reader.receiving)
    assert receiving == [False] + [True] * (len(GET) - 1)
    request = read(reader, GET[-1:] + GET[:3])
    assert request is not None
    reader.respond(request, Response(204), close=False)
    answered = [reader.answered]
    reader.next_request()
    assert [*answered, reader.answered] == [False, True]
    receiving = [reader.receiving]
    assert read(reader, GET[3:]) is not None
    assert [*receiving, reader.receiving] == [True, False]


def test_what_follows_the_head_is_kept() -> None:
    reader = RequestReader(Limits())
    assert read(reader, upgrade_request() + b"\x81\x80frames") is not None
    assert reader.trailing_data == b"\x81\x80frames"


# -- bounds --------------------------------------------------------------------------------------


def test_a_head_may_have_as_many_bytes_as_the_bound(cut: Cut) -> None:
    assert len(requests(cut(padded(200)), SMALL)) == 1


def test_a_head_beyond_the_bound_is_refused(cut: Cut) -> None:
    error = refusal(padded(201), SMALL, cut)
    assert error.status == 431
    assert "200 bytes" in error.message


def test_the_bound_holds_before_the_head_is_complete(cut: Cut) -> None:
    assert refusal(b"GET /" + b"a" * 200, SMALL, cut).status == 431


def test_the_default_bounds_are_16_kib_and_100_headers(cut: Cut) -> None:
    assert len(requests(cut(padded(16 * 1024)))) == 1
    assert refusal(padded(16 * 1024 + 1), None, cut).status == 431
    assert len(requests([padded(2000, 99)])) == 1
    assert refusal(padded(2000, 100), None, cut).status == 431


def test_each_pipelined_head_has_the_bound_for_itself() -> None:
    assert len(requests([padded(200) * 20], SMALL)) == 20
    with pytest.raises(RemoteProtocolError) as caught:
        requests([padded(200) * 20 + padded(201)], SMALL)
    assert caught.value.status == 431


def test_frames_behind_a_head_do_not_count() -> None:
    reader = RequestReader(SMALL)
    assert read(reader, upgrade_request("/x")[:-2] + b"\r\n" + bytes(1000)) is not None


def test_memory_for_a_head_is_bounded() -> None:
    tracemalloc.start()
    try:
        reader = RequestReader(Limits())
        for _ in range(16):
            read(reader, b"X" * 1000)
        with pytest.raises(RemoteProtocolError):
            read(reader, b"X" * 1000)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 200_000


# -- garbage -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: \xfc\r\n\r\n",
        b"GET /\r\nHost: a\r\n\r\n",
        b"GET / HTTP/11\r\nHost: a\r\n\r\n",
        b"GET / FTP/1.1\r\nHost: a\r\n\r\n",
        b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /\xc3\xbc HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /#a HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /%ff HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET a HTTP/1.1\r\nHost: a\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        b"G(T / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX : a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX\xfc: a\r\n\r\n",
        b"GET / HTTP/1.1\r\n Host: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
        b"\r\n\r\n",
    ],
)
def test_a_malformed_head_is_refused_with_400(data: bytes, cut: Cut) -> None:
    error = refusal(data, None, cut)
    assert error.status == 400
    assert error.message


@pytest.mark.parametrize("coding", ["gzip", "gzip, chunked", "chunked\r\nTransfer-Encoding: x"])
def test_an_unknown_transfer_encoding_is_refused_with_501(coding: str, cut: Cut) -> None:
    data = head("GET / HTTP/1.1", HOST | {"Transfer-Encoding": coding})
    assert refusal(data, None, cut).status == 501


PIECES = b"""GET |/| HTTP/1.1|\r\n|\n|\r|Host: a|: |\0|\xff| |\t|%|#|99999999|Content-Length: |\
CONNECT |Transfer-Encoding: chunked|Connection: close|Upgrade: websocket|Expect: 100-continue|\
HTTP/1.1 101 X"""
pieces = st.sampled_from(PIECES.split(b"|"))
garbage = st.binary(max_size=60) | st.lists(pieces, max_size=20).map(b"".join)
mutations = st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), min_size=1, max_size=4)


def mutated(data: bytes, changes: list[tuple[int, int]]) -> bytes:
    changed = bytearray(data)
    for position, value in changes:
        changed[position % len(changed)] = value
    return bytes(changed)


def _read_anything(data: list[bytes]) -> None:
    status = 400
    try:
        requests(data)
    except RemoteProtocolError as error:
        status = error.status
    assert 400 <= status < 600


@settings(max_examples=300, deadline=None)
@given(garbage)
def test_no_garbage_raises_anything_else(data: bytes) -> None:
    _read_anything(whole(data))
    _read_anything(byte_by_byte(data))
    _read_anything(whole(GET + data))
    _read_anything(whole(data + GET))


@settings(max_examples=300, deadline=None)
@given(mutations)
def test_no_mutated_head_raises_anything_else(changes: list[tuple[int, int]]) -> None:
    data = upgrade_request("/a?b", {"Content-Length": "0", "X": "y"}) + GET
    _read_anything(whole(mutated(data, changes)))
    _read_anything(byte_by_byte(mutated(data, changes)))


# -- keeping the connection (RFC 9112 section 9.3) -----------------------------------------------


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (GET, True),
        (head("HEAD / HTTP/1.1", HOST), True),
        (upgrade_request(), True),
        (head("GET / HTTP/1.1", HOST | {"Connection": "close"}), False),
        (head("GET / HTTP/1.1", HOST | {"Connection": "X, Close"}), False),
        (head("GET / HTTP/1.0", {}), False),
        (head("GET / HTTP/1.1", HOST | {"Content-Length": "0"}), True),
        (head("POST / HTTP/1.1", HOST | {"Content-Length": "3"}) + b"abc", False),
        (head("POST / HTTP/1.1", HOST | {"Transfer-Encoding": "chunked"}) + b"0\r\n\r\n", False),
        (head("CONNECT /x HTTP/1.1", HOST), True),
    ],
)
def test_which_requests_keep_the_connection(data: bytes, expected: bool) -> None:
    reader = RequestReader(Limits())
    request = read(reader, data)
    assert request is not None
    assert reader.keeps_alive is expected
    answer = reader.respond(request, Response(404), close=not expected)
    assert (b"connection: close" in answer.lower()) is not expected
    if expected:
        reader.next_request()
        assert read(reader, GET) is not None


# -- responses -----------------------------------------------------------------------------------


def responded(response: Response, data: bytes = GET, *, close: bool = False) -> bytes:
    reader = RequestReader(Limits())
    request = read(reader, data)
    assert request is not None
    return reader.respond(request, response, close=close)


def test_a_response_has_its_length_and_its_type() -> None:
    assert read_response(responded(Response(404, "näh\n"))) == HttpResponse(
        404,
        {"content-type": "text/plain; charset=utf-8", "content-length": "5"},
        "näh\n".encode(),
    )


def test_a_response_has_the_headers_it_was_given() -> None:
    response = Response(200, b"{}", [("X", "1"), ("Content-Type", "a/b"), ("x", "2")])
    data = responded(response)
    assert b"\r\nX: 1\r\n" in data
    assert read_response(data).headers == {"x": "2", "content-type": "a/b", "content-length": "2"}


def test_the_last_response_says_so() -> None:
    assert read_response(responded(Response(), close=True)).closes
    assert not read_response(responded(Response())).closes


def test_head_gets_the_headers_of_the_body_without_it() -> None:
    data = responded(Response(200, "four"), head("HEAD / HTTP/1.1", HOST))
    made = read_response(data, "HEAD")
    assert (made.status, made.headers["content-length"], made.body) == (200, "4", b"")


@pytest.mark.parametrize("status", [204, 304])
def test_statuses_without_a_body_have_none(status: int) -> None:
    data = responded(Response(status, "never sent"))
    assert b"never" not in data
    assert read_response(data) == HttpResponse(status, {}, b"")


def test_an_empty_body_has_a_length_and_no_type() -> None:
    assert read_response(responded(Response(200))) == HttpResponse(
        200, {"content-length": "0"}, b""
    )


def test_a_request_that_could_not_be_read_is_answered() -> None:
    reader = RequestReader(Limits())
    with pytest.raises(RemoteProtocolError):
        read(reader, b"garbage\r\n\r\n")
    data = reader.respond(None, Response(400, "what?"), close=True)
    assert read_response(data).status == 400
    assert read_response(data).closes


def test_the_101_response_ends_the_head() -> None:
    reader = RequestReader(Limits())
    assert read(reader, upgrade_request()) is not None
    data = reader.switch_protocols([("Upgrade", "websocket"), ("X", "ü")])
    first, *lines, empty, rest = data.split(b"\r\n")
    assert first == b"HTTP/1.1 101 Switching Protocols"
    assert lines == [b"Upgrade: websocket", b"X: \xfc"]
    assert empty == rest == b""


# -- the client's side ---------------------------------------------------------------------------


def response_reader(limits: Limits | None = None) -> ResponseReader:
    reader = ResponseReader(limits or Limits())
    reader.request("/", [("Host", "a"), ("Upgrade", "websocket"), ("Connection", "Upgrade")])
    return reader


def answers(data: list[bytes], limits: Limits | None = None) -> list[Answer]:
    reader = response_reader(limits)
    return [got for each in data if (got := reader.receive_data(each)) is not None]


def test_the_request_is_read_by_a_server() -> None:
    data = ResponseReader(Limits()).request("/a?b", [("Host", "a"), ("X", "ü")])
    (request,) = requests([data])
    assert (request.method, request.target, request.headers["x"]) == ("GET", "/a?b", "ü")


@pytest.mark.parametrize(
    ("target", "headers"),
    [("/a b", [("Host", "a")]), ("/", [("Host", "a"), ("Host", "b")]), ("/", [])],
)
def test_a_request_that_cannot_be_sent(target: str, headers: list[tuple[str, str]]) -> None:
    with pytest.raises(LocalProtocolError):
        ResponseReader(Limits()).request(target, headers)


def test_a_101_is_read_and_what_follows_is_kept(cut: Cut) -> None:
    reader = response_reader()
    head_bytes = upgrade_response()
    got = [reader.receive_data(each) for each in cut(head_bytes)]
    assert got[:-1] == [None] * (len(got) - 1)
    assert got[-1] is not None
    assert got[-1][0] == 101
    reader = response_reader()
    assert reader.receive_data(head_bytes + b"\x81\x00") is not None
    assert reader.trailing_data == b"\x81\x00"


def test_a_refusal_is_read_with_its_body(cut: Cut) -> None:
    data = head("HTTP/1.1 403 No", {"X": "1", "Content-Length": "4"}) + b"why?"
    assert answers(cut(data)) == [(403, [("x", "1"), ("content-length", "4")], b"why?")]


def test_a_refusal_in_chunks_is_read(cut: Cut) -> None:
    data = (
        head("HTTP/1.1 403 No", {"Transfer-Encoding": "chunked"})
        + b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"
    )
    assert answers(cut(data)) == [(403, [("transfer-encoding", "chunked")], b"abc")]


def test_a_refusal_may_end_with_the_connection(cut: Cut) -> None:
    reader = response_reader()
    for data in cut(head("HTTP/1.1 500 Oh", {}) + b"dear"):
        assert reader.receive_data(data) is None
    assert reader.receive_eof() == (500, [], b"dear")


def test_a_refusal_is_cut_at_the_bound() -> None:
    data = head("HTTP/1.1 403 No", {"Content-Length": "1000"}) + b"a" * 1000
    ((_, _, body),) = answers(byte_by_byte(data), SMALL)
    assert body == b"a" * 200


def test_other_informational_responses_are_passed_over(cut: Cut) -> None:
    data = head("HTTP/1.1 103 Early Hints", {"Link": "x"}) + upgrade_response()
    ((status, _, _),) = answers(cut(data))
    assert status == 101


def test_a_response_has_the_bounds_of_a_head(cut: Cut) -> None:
    for data in (
        upgrade_response(changes={"X": "a" * 200}),
        upgrade_response(changes={"X": ["1", "2", "3"]}),
        b"HTTP/1.1 101 " + b"a" * 200,
    ):
        with pytest.raises(RemoteProtocolError, match="more than"):
            answers(cut(data), SMALL)


@pytest.mark.parametrize(
    "data", [b"", b"HTTP/1.1 101", head("HTTP/1.1 403 No", {"Content-Length": "1"})]
)
def test_an_end_within_the_response_is_an_error(data: bytes) -> None:
    reader = response_reader()
    for each in (b"", data, b""):
        assert reader.receive_data(each) is None
    with pytest.raises(RemoteProtocolError, match="ended"):
        reader.receive_eof()


@settings(max_examples=300, deadline=None)
@given(garbage, mutations, st.booleans())
def test_no_response_raises_anything_else(
    data: bytes, changes: list[tuple[int, int]], end: bool
) -> None:
    for stream in (data, mutated(upgrade_response(), changes), upgrade_response()[:40] + data):
        for reads in (whole(stream), byte_by_byte(stream)):
            reader = response_reader()
            with contextlib.suppress(RemoteProtocolError):
                if not any(reader.receive_data(each) for each in reads) and end:
                    reader.receive_eof()
