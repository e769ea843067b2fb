"""Our codec, wsproto behind our interface, and wsproto alone: the same messages and verdicts.

Streams are drawn frame by frame (legal, hostile, mutated, truncated) and cut anywhere. Where two
engines may differ, a rule below says when and why; everything else is a failure.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage
from wsproto.extensions import PerMessageDeflate

from frames import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    RSV1,
    TEXT,
    Compressor,
    close_frame,
    fragments,
    frame,
    headers_of,
)
from framings import (
    ENGINES,
    NO_TAKEOVER,
    TAKEOVER,
    byte_by_byte,
    cut_at,
    framing,
    receive,
    verdict,
    whole,
)
from wireroom.core.wire.deflate import DeflateParameters
from wireroom.core.wire.framing import (
    CloseReceived,
    FrameEvent,
    PingReceived,
    PongReceived,
    Violation,
)
from wireroom.core.wire.framing_engine import Framing

BYTES_MAX: Final = 1000
FRAGMENTS_MAX: Final = 5

DEFLATES = [None, NO_TAKEOVER, TAKEOVER]
Step: TypeAlias = Callable[["Compressor | None", "bytes | None"], bytes]


# -- streams -------------------------------------------------------------------------------------

good_texts = st.sampled_from(["", "a", "grüße €\U0001f600", "x" * 130, "ab" * 400, "\x00"])
any_bytes = st.sampled_from(
    [b"", b"\xff", b"\xc3", b"a\xed\xa0\x80b", b"\xe2\x82", bytes(126), bytes(BYTES_MAX)]
) | st.binary(max_size=12)
too_big = st.sampled_from([bytes(BYTES_MAX + 1), "€".encode() * 400])
any_payloads = good_texts.map(str.encode) | any_bytes | too_big
cuts = st.lists(st.integers(1, 1100), max_size=4)
controls = st.lists(st.sampled_from([PING, PONG]), max_size=2)
lengths = st.sampled_from([0, 1, 125, 126, 127, 1000, 1001, 65535, 65536, 2**63 - 1, 2**63])
forms = st.sampled_from([7, 16, 64])


def message(
    opcode: int, payload: bytes, at: list[int], between: list[int], compressed: bool
) -> Step:
    """A message in fragments, with control frames after its first."""

    def build(compressor: Compressor | None, key: bytes | None) -> bytes:
        rsv = RSV1 if compressed and compressor is not None else 0
        data = compressor.message(payload) if compressed and compressor is not None else payload
        first, *rest = fragments(opcode, *cut_at(data, at), rsv=rsv, key=key)
        if rest:
            rest = [frame(each, b"between", key=key) for each in between] + rest
        return b"".join([first, *rest])

    return build


def control(opcode: int, payload: bytes) -> Step:
    return lambda compressor, key: frame(opcode, payload[:125], key=key)


def close(code: int, reason: bytes) -> Step:
    return lambda compressor, key: close_frame(code, reason[:123], key=key)


def hostile(first: int, payload: bytes, length: int, form: int, other_key: bool) -> Step:
    """A frame with any first byte, any length in any form, masked one way or the other."""

    def build(compressor: Compressor | None, key: bytes | None) -> bytes:
        if other_key:
            key = b"\x01\x02\x03\x04" if key is None else None
        size = 64 if length > 65535 else max(form, 16) if length > 125 else form
        return frame(
            first & 0x0F,
            payload,
            fin=first >= 0x80,
            rsv=first & 0x70,
            key=key,
            length=length,
            form=size,
        )

    return build


good_steps = st.one_of(
    st.builds(message, st.just(TEXT), good_texts.map(str.encode), cuts, controls, st.booleans()),
    st.builds(message, st.just(BINARY), any_bytes, cuts, controls, st.booleans()),
    st.builds(control, st.sampled_from([PING, PONG]), any_payloads),
)
bad_steps = st.one_of(
    st.builds(
        message, st.sampled_from([TEXT, BINARY]), any_payloads, cuts, controls, st.booleans()
    ),
    st.builds(close, st.sampled_from([1000, 1004, 1005, 1014, 3000, 5000]), any_payloads),
    st.builds(control, st.sampled_from([PING, PONG, CLOSE]), any_payloads),
    st.builds(hostile, st.integers(0, 255), any_payloads, lengths, forms, st.booleans()),
    st.builds(
        hostile,
        st.sampled_from([0x82, 0x81, 0x01, 0x00, 0x80, 0xC1]),
        any_payloads,
        st.sampled_from([BYTES_MAX, BYTES_MAX + 1, 65536, 2**63 - 1]),
        forms,
        st.booleans(),
    ),
    st.binary(max_size=20).map(lambda data: lambda compressor, key: data),
)
mutations = st.lists(st.tuples(st.integers(0, 500), st.integers(1, 255)), max_size=3)


@st.composite
def streams(draw: st.DrawFn, deflate: DeflateParameters | None, client: bool) -> bytes:
    """What a peer might send: mostly right, then not."""
    steps = draw(st.lists(good_steps, max_size=4)) + draw(st.lists(bad_steps, max_size=3))
    compressor = None if deflate is None else Compressor(takeover=deflate is TAKEOVER)
    key = None if client else b"\xa5\x01\x80\x3c"
    data = bytearray(b"".join(step(compressor, key) for step in steps))
    for position, change in draw(st.just([]) | mutations):
        if position < len(data):
            data[position] ^= change
    return bytes(data[: draw(st.none() | st.integers(0, 500))])


# -- the engines ---------------------------------------------------------------------------------


class Run:
    """What one engine made of a stream: what came, and the close code of the violation, if any."""

    def __init__(
        self, engine: str, client: bool, deflate: DeflateParameters | None, reads: list[bytes]
    ) -> None:
        self._framing: Framing = framing(
            engine,
            client=client,
            deflate=deflate,
            message_bytes_max=BYTES_MAX,
            message_fragments_max=FRAGMENTS_MAX,
        )
        self.events: list[FrameEvent] = []
        self.code: int | None = None
        self.feed(reads)

    def feed(self, reads: list[bytes]) -> None:
        for event in receive(self._framing, reads):
            assert self.code is None, "an event after the violation"
            if isinstance(event, Violation):
                self.code = event.code
            else:
                self.events.append(event)


# -- the rules: where verdicts may differ --------------------------------------------------------


def masked_the_wrong_way_and_too_big(ours: Run, theirs: Run, stream: bytes, client: bool) -> bool:
    """We look at the mask first, as it is in the first two bytes; wsproto at the length."""
    wrong = next((each for each in headers_of(stream) if each.masked == client), None)
    return wrong is not None and wrong.opcode < CLOSE and (ours.code, theirs.code) == (1002, 1009)


def the_stream_ends_within_a_header(ours: Run, theirs: Run, stream: bytes, client: bool) -> bool:
    """Either engine may need more of it than the other; with the rest they agree."""
    headers = list(headers_of(stream))
    if not headers or headers[-1].whole or (ours.code is None) == (theirs.code is None):
        return False
    late = ours if ours.code is None else theirs
    late.feed([bytes(8)])
    return ours.code == theirs.code or masked_the_wrong_way_and_too_big(
        ours, theirs, stream, client
    )


RULES = [masked_the_wrong_way_and_too_big, the_stream_ends_within_a_header]


def inflated_in_other_pieces(
    one: int | None, other: int | None, deflate: DeflateParameters | None
) -> bool:
    """A read is inflated at once: what is wrong in it may be found before what it is too big by."""
    return deflate is not None and {one, other} == {1007, 1009}


@pytest.mark.parametrize(
    ("stream", "rule"),
    [
        (frame(BINARY, key=None, length=BYTES_MAX + 1), masked_the_wrong_way_and_too_big),
        (frame(TEXT, rsv=RSV1, length=200)[:2], the_stream_ends_within_a_header),
        (b"".join(fragments(TEXT, *[b""] * 6))[:-4], the_stream_ends_within_a_header),
    ],
)
def test_each_rule_is_needed(stream: bytes, rule: Callable[[Run, Run, bytes, bool], bool]) -> None:
    ours, theirs = (Run(engine, False, None, [stream]) for engine in ENGINES)
    assert ours.code != theirs.code
    assert rule(ours, theirs, stream, False)
    assert ours.events == theirs.events


def test_reads_inflated_at_once_may_be_judged_in_another_order() -> None:
    payload = Compressor().message(b"a" * BYTES_MAX + b"\xff" + b"b")
    stream = frame(TEXT, payload, rsv=RSV1)
    big = frame(TEXT, Compressor().message(b"\xff" + b"a" * BYTES_MAX), rsv=RSV1)
    for engine in ENGINES:
        assert Run(engine, False, NO_TAKEOVER, whole(stream)).code == 1009
        codes = {Run(engine, False, NO_TAKEOVER, cut(big)).code for cut in (whole, byte_by_byte)}
        assert codes == {1007, 1009}


# -- tests ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("client", [False, True])
@pytest.mark.parametrize("deflate", DEFLATES)
@settings(max_examples=150, deadline=None)
@given(data=st.data(), at=st.lists(st.integers(1, 600), max_size=12))
def test_both_engines_agree_on_any_stream(
    data: st.DataObject, client: bool, deflate: DeflateParameters | None, at: list[int]
) -> None:
    stream = data.draw(streams(deflate, client))
    for reads in (whole(stream), cut_at(stream, at), byte_by_byte(stream)):
        ours, theirs = (Run(engine, client, deflate, reads) for engine in ENGINES)
        assert ours.events == theirs.events
        if ours.code != theirs.code:
            assert any(rule(ours, theirs, stream, client) for rule in RULES)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("deflate", DEFLATES)
@settings(max_examples=100, deadline=None)
@given(data=st.data(), at=st.lists(st.integers(1, 600), max_size=12), client=st.booleans())
def test_it_does_not_matter_where_a_stream_is_cut(
    data: st.DataObject,
    engine: str,
    client: bool,
    deflate: DeflateParameters | None,
    at: list[int],
) -> None:
    stream = data.draw(streams(deflate, client))
    at_once = Run(engine, client, deflate, whole(stream))
    for reads in (cut_at(stream, at), byte_by_byte(stream)):
        cut = Run(engine, client, deflate, reads)
        assert cut.events == at_once.events
        assert cut.code == at_once.code or inflated_in_other_pieces(cut.code, at_once.code, deflate)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("deflate", DEFLATES)
@settings(max_examples=60, deadline=None)
@given(data=st.data(), batch=st.integers(1, 4), client=st.booleans())
def test_batches_do_not_change_what_is_received(
    data: st.DataObject, engine: str, client: bool, deflate: DeflateParameters | None, batch: int
) -> None:
    stream = data.draw(streams(deflate, client))
    at_once = Run(engine, client, deflate, whole(stream))
    codec = framing(
        engine,
        client=client,
        deflate=deflate,
        message_bytes_max=BYTES_MAX,
        message_fragments_max=FRAGMENTS_MAX,
        batch_messages=batch,
        batch_bytes=50,
    )
    events = codec.receive(stream[:7])
    codec.hold(stream[7:])
    while codec.more:
        got = codec.receive(b"")
        assert len(got) <= batch
        events += got
    assert verdict(events) == at_once.code or inflated_in_other_pieces(
        verdict(events), at_once.code, deflate
    )
    assert [each for each in events if not isinstance(each, Violation)] == at_once.events


# -- wsproto alone -------------------------------------------------------------------------------


def unwrapped(
    stream: bytes, *, client: bool, deflate: DeflateParameters | None
) -> list[FrameEvent]:
    """What wsproto makes of a stream without anything of ours; whole messages."""
    extension = PerMessageDeflate()
    if deflate is not None:
        takeover = "server_no_context_takeover; client_no_context_takeover"
        extension.finalize("permessage-deflate; " + ("" if deflate is TAKEOVER else takeover))
    role = ConnectionType.CLIENT if client else ConnectionType.SERVER
    connection = Connection(role, [] if deflate is None else [extension])
    connection.receive_data(stream)
    events: list[FrameEvent] = []
    text: list[str] = []
    data: list[bytes] = []
    for event in connection.events():
        if isinstance(event, TextMessage):
            text.append(event.data)
            if event.message_finished:
                events.append("".join(text))
                text.clear()
        elif isinstance(event, BytesMessage):
            data.append(bytes(event.data))
            if event.message_finished:
                events.append(b"".join(data))
                data.clear()
        elif isinstance(event, Ping):
            events.append(PingReceived(bytes(event.payload)))
        elif isinstance(event, Pong):
            events.append(PongReceived(bytes(event.payload)))
        elif isinstance(event, CloseConnection):
            events.append(CloseReceived(int(event.code), event.reason or ""))
    return events


small = st.binary(max_size=200) | st.sampled_from([bytes(126), bytes(990)])


@st.composite
def legal_streams(draw: st.DrawFn, deflate: DeflateParameters | None, client: bool) -> bytes:
    """Legal, within the bounds, and without what wsproto is known to get wrong."""
    no_controls = st.just(
        list[int]()
    )  # between compressed fragments: see test_wire_wsproto_framing
    fragmented = st.lists(st.integers(1, 990), max_size=FRAGMENTS_MAX - 1)
    steps = draw(
        st.lists(
            st.one_of(
                st.builds(
                    message,
                    st.just(TEXT),
                    st.text(max_size=60).map(str.encode),
                    fragmented,
                    controls,
                    st.just(False),
                ),
                st.builds(message, st.just(BINARY), small, fragmented, no_controls, st.just(True)),
                st.builds(control, st.sampled_from([PING, PONG]), small),
            ),
            max_size=6,
        )
    )
    if draw(st.booleans()):
        steps.append(close(draw(st.sampled_from([1000, 1003, 1011, 3000, 4999])), b"why"))
    compressor = None if deflate is None else Compressor(takeover=deflate is TAKEOVER)
    key = None if client else b"\xa5\x01\x80\x3c"
    return b"".join(step(compressor, key) for step in steps)


@pytest.mark.parametrize("client", [False, True])
@pytest.mark.parametrize("deflate", DEFLATES)
@settings(max_examples=80, deadline=None)
@given(data=st.data(), at=st.lists(st.integers(1, 600), max_size=12))
def test_wsproto_alone_agrees_on_legal_streams(
    data: st.DataObject, client: bool, deflate: DeflateParameters | None, at: list[int]
) -> None:
    stream = data.draw(legal_streams(deflate, client))
    expected = unwrapped(stream, client=client, deflate=deflate)
    for engine in ENGINES:
        for reads in (whole(stream), cut_at(stream, at)):
            run = Run(engine, client, deflate, reads)
            assert (run.events, run.code) == (expected, None)
