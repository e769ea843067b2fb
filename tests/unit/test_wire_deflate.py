"""permessage-deflate (RFC 7692): settings, negotiation by both sides, compression within bounds.

What a connection does with compressed frames is in test_wire_framing.py.
"""

from __future__ import annotations

import itertools
import time
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.extensions.permessage_deflate import (
    ClientPerMessageDeflateFactory,
    PerMessageDeflate,
    ServerPerMessageDeflateFactory,
)

from frames import Compressor, deflated, final_block
from wireroom.core.errors import ConfigurationError, RemoteProtocolError
from wireroom.core.wire.deflate import (
    Deflate,
    DeflateParameters,
    Deflater,
    Inflater,
    MessageTooBig,
    accept_response,
    deflated_bytes_max,
    negotiate,
    offer,
)
from wireroom.core.wire.header_grammar import parse_extensions

TAKEOVER = Deflate(server_no_context_takeover=False, client_no_context_takeover=False)
NAME = "permessage-deflate"
NO_CONTEXT = "; server_no_context_takeover; client_no_context_takeover"

bits = st.integers(9, 15)  # websockets compresses with no smaller window
settings_of_ours = st.builds(
    Deflate,
    server_no_context_takeover=st.booleans(),
    client_no_context_takeover=st.booleans(),
    server_max_window_bits=bits,
    client_max_window_bits=bits,
)


def answer(value: str, settings: Deflate = TAKEOVER) -> str | None:
    """The server's header value in answer to an offer."""
    chosen = negotiate(parse_extensions([value], "X"), settings)
    return None if chosen is None else chosen[1]


def accepted(value: str, settings: Deflate = TAKEOVER) -> DeflateParameters:
    """What a client with these settings makes of the server's header value."""
    (response,) = parse_extensions([value], "X")
    return accept_response(response.parameters, settings)


# -- settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("server_max_window_bits", 9, 15),
        ("client_max_window_bits", 8, 15),
        ("memory_level", 1, 9),
        ("level", 0, 9),
        ("threshold_bytes", 0, 2**31),
    ],
)
def test_settings_have_their_ranges(name: str, low: int, high: int) -> None:
    for value in (low, high):
        assert getattr(Deflate(**{name: value}), name) == value  # type: ignore[arg-type]
    for wrong in (low - 1, high + 1, True, 9.0, "9", None):
        with pytest.raises(ConfigurationError, match=f"Deflate.{name}"):
            Deflate(**{name: wrong})  # type: ignore[arg-type]


# -- the server's choice (section 7.1) -----------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (NAME, NAME),
        (f"{NAME}; server_no_context_takeover", f"{NAME}; server_no_context_takeover"),
        (f"{NAME}; client_no_context_takeover", f"{NAME}; client_no_context_takeover"),
        (f"{NAME}; client_max_window_bits", NAME),
        (f"{NAME}; client_max_window_bits=10", f"{NAME}; client_max_window_bits=10"),
        (f"{NAME}; client_max_window_bits=8", f"{NAME}; client_max_window_bits=8"),
        (f"{NAME}; client_max_window_bits=14", f"{NAME}; client_max_window_bits=14"),
        (f"{NAME}; client_max_window_bits=15", NAME),
        (f'{NAME}; client_max_window_bits="10"', f"{NAME}; client_max_window_bits=10"),
        (f"{NAME}; server_max_window_bits=15", f"{NAME}; server_max_window_bits=15"),
        (f"{NAME}; server_max_window_bits=8", f"{NAME}; server_max_window_bits=8"),
        (f"x; y=1, {NAME}", NAME),
        (f"{NAME}; server_max_window_bits=9, {NAME}", f"{NAME}; server_max_window_bits=9"),
        ("x-webkit-deflate-frame", None),
        ("", None),
    ],
)
def test_the_answer_to_an_offer(value: str, expected: str | None) -> None:
    assert answer(value) == expected


@pytest.mark.parametrize(
    "parameters",
    [
        "unknown",
        "server_max_window_bits",
        "server_max_window_bits=7",
        "server_max_window_bits=16",
        "server_max_window_bits=08",
        "server_max_window_bits=+9",
        "server_max_window_bits=0x9",
        "client_max_window_bits=7",
        "client_max_window_bits=16",
        "client_max_window_bits=010",
        "client_max_window_bits=1e1",
        "server_no_context_takeover=1",
        "server_no_context_takeover=true",
        "client_no_context_takeover=0",
        "server_no_context_takeover; server_no_context_takeover",
        "client_no_context_takeover; client_no_context_takeover",
        "server_max_window_bits=10; server_max_window_bits=10",
        "client_max_window_bits; client_max_window_bits=10",
        "client_max_window_bits; client_max_window_bits",
        "server_no_context_takeover; unknown=1",
    ],
)
def test_an_invalid_offer_is_declined_and_the_next_considered(parameters: str) -> None:
    wrong = f"{NAME}; {parameters}"
    assert answer(wrong) is None
    assert answer(f"{wrong}, {NAME}") == NAME
    assert answer(f"{wrong}, {wrong}, {NAME}; client_max_window_bits=9") == (
        f"{NAME}; client_max_window_bits=9"
    )


def test_no_context_is_kept_by_default() -> None:
    assert answer(NAME, Deflate()) == NAME + NO_CONTEXT


def test_fewer_bits_are_asked_of_a_client_only_if_it_offers_that() -> None:
    settings = Deflate(client_max_window_bits=10)
    assert answer(NAME, settings) == NAME + NO_CONTEXT
    asked = f"{NAME}{NO_CONTEXT}; client_max_window_bits=10"
    assert answer(f"{NAME}; client_max_window_bits", settings) == asked
    assert answer(f"{NAME}; client_max_window_bits=12", settings) == asked
    assert answer(f"{NAME}; client_max_window_bits=9", settings) == asked.replace("10", "9")


def test_the_servers_window_is_the_smaller_of_both() -> None:
    for ours, theirs in itertools.product((9, 12, 15), (8, 9, 12, 15)):
        value = f"{NAME}; server_max_window_bits={theirs}"
        chosen = negotiate(parse_extensions([value], "X"), Deflate(server_max_window_bits=ours))
        assert chosen is not None
        parameters, response = chosen
        assert parameters.server_max_window_bits == min(ours, theirs)
        assert response.endswith(f"; server_max_window_bits={min(ours, theirs)}")


@given(
    settings_of_ours,
    st.booleans(),
    st.booleans(),
    st.integers(8, 15) | st.none(),
    bits | st.none() | st.just(True),
)
def test_websockets_client_accepts_our_answer_and_understands_the_same(
    settings: Deflate,
    server_no_takeover: bool,
    client_no_takeover: bool,
    server_bits: int | None,
    client_bits: int | bool | None,
) -> None:
    factory = ClientPerMessageDeflateFactory(
        server_no_takeover, client_no_takeover, server_bits, client_bits
    )
    value = "; ".join(
        name if setting is None else f"{name}={setting}"
        for name, setting in [(NAME, None), *factory.get_request_params()]
    )
    chosen = negotiate(parse_extensions([value], "X"), settings)
    assert chosen is not None
    parameters, response = chosen
    (extension,) = parse_extensions([response], "X")
    theirs = factory.process_response_params(extension.parameters, [])
    assert isinstance(theirs, PerMessageDeflate)
    assert (
        DeflateParameters(
            server_no_context_takeover=theirs.remote_no_context_takeover,
            client_no_context_takeover=theirs.local_no_context_takeover,
            # What we compress with may be fewer than what we announce, which is always legal.
            server_max_window_bits=min(
                theirs.remote_max_window_bits, settings.server_max_window_bits
            ),
            client_max_window_bits=theirs.local_max_window_bits,
        )
        == parameters
    )


# -- the client's offer, and its check of the response (section 7.1) -----------------------------


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (Deflate(), f"{NAME}{NO_CONTEXT}; client_max_window_bits"),
        (TAKEOVER, f"{NAME}; client_max_window_bits"),
        (
            Deflate(server_max_window_bits=10),
            f"{NAME}{NO_CONTEXT}; server_max_window_bits=10; client_max_window_bits",
        ),
    ],
)
def test_the_offer_says_what_the_settings_ask_for(settings: Deflate, expected: str) -> None:
    assert offer(settings) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (NAME, DeflateParameters(False, False, 15, 15)),
        (NAME + NO_CONTEXT, DeflateParameters(True, True, 15, 15)),
        (f"{NAME}; client_no_context_takeover", DeflateParameters(False, True, 15, 15)),
        (f"{NAME}; server_max_window_bits=8", DeflateParameters(False, False, 8, 15)),
        (f"{NAME}; client_max_window_bits=8", DeflateParameters(False, False, 15, 8)),
    ],
)
def test_a_response_to_our_offer_is_accepted(value: str, expected: DeflateParameters) -> None:
    assert accepted(value) == expected


@pytest.mark.parametrize(
    "parameters",
    [
        "unknown",
        "client_max_window_bits",
        "server_max_window_bits",
        "server_max_window_bits=16",
        "client_max_window_bits=7",
        "client_max_window_bits=09",
        "server_no_context_takeover=1",
        "server_no_context_takeover; server_no_context_takeover",
        "client_max_window_bits=10; client_max_window_bits=10",
    ],
)
def test_a_response_with_invalid_parameters_fails(parameters: str) -> None:
    with pytest.raises(RemoteProtocolError, match=NAME):
        accepted(f"{NAME}; {parameters}")


def test_a_response_must_keep_to_what_was_asked() -> None:
    with pytest.raises(RemoteProtocolError, match="server_no_context_takeover was required"):
        accepted(NAME, Deflate(client_no_context_takeover=False))
    narrow = Deflate(server_no_context_takeover=False, server_max_window_bits=10)
    for value in (NAME, f"{NAME}; server_max_window_bits=11"):
        with pytest.raises(RemoteProtocolError, match="above our offer"):
            accepted(value, narrow)
    assert accepted(f"{NAME}; server_max_window_bits=9", narrow).server_max_window_bits == 9


def test_a_client_may_keep_no_context_though_the_server_would_allow_it() -> None:
    settings = Deflate(server_no_context_takeover=False, client_max_window_bits=9)
    assert accepted(NAME, settings) == DeflateParameters(False, True, 15, 9)


@given(settings_of_ours, st.booleans(), st.booleans(), bits | st.none(), bits | st.none())
def test_websockets_server_answers_our_offer_and_understands_the_same(
    settings: Deflate,
    server_no_takeover: bool,
    client_no_takeover: bool,
    server_bits: int | None,
    client_bits: int | None,
) -> None:
    factory = ServerPerMessageDeflateFactory(
        server_no_takeover, client_no_takeover, server_bits, client_bits
    )
    (ours,) = parse_extensions([offer(settings)], "X")
    response, theirs = factory.process_request_params(ours.parameters, [])
    assert isinstance(theirs, PerMessageDeflate)
    parameters = accept_response(tuple(response), settings)
    assert parameters.server_no_context_takeover == theirs.local_no_context_takeover
    assert parameters.server_max_window_bits == theirs.local_max_window_bits
    # We may keep less than they are ready for, never more.
    assert parameters.client_no_context_takeover >= theirs.remote_no_context_takeover
    assert parameters.client_max_window_bits <= theirs.remote_max_window_bits


# -- compression (section 7.2.1) -----------------------------------------------------------------


def inflated(window_bits: int, *messages: bytes) -> list[bytes]:
    """Messages by zlib, with a window no larger than agreed and its context kept."""
    decompressor = zlib.decompressobj(-window_bits)
    return [decompressor.decompress(each + b"\x00\x00\xff\xff") for each in messages]


TEXT = b"".join(b"%d bottles of beer on the wall, " % number for number in range(3000))


@pytest.mark.parametrize("window_bits", range(8, 16))
@pytest.mark.parametrize("no_takeover", [False, True])
def test_what_we_compress_fits_the_window(window_bits: int, no_takeover: bool) -> None:
    deflater = Deflater(
        window_bits=window_bits, no_context_takeover=no_takeover, settings=Deflate()
    )
    messages = [deflater.deflate(each) for each in (TEXT, b"", b"a", TEXT[::-1], b"", TEXT)]
    assert inflated(window_bits, *messages) == [TEXT, b"", b"a", TEXT[::-1], b"", TEXT]


def test_an_empty_message_is_not_an_empty_payload() -> None:
    for no_takeover in (False, True):
        deflater = Deflater(window_bits=15, no_context_takeover=no_takeover, settings=Deflate())
        assert [deflater.deflate(b"") for _ in range(3)] == [b"\x00"] * 3
        deflater.deflate(b"a")
        assert deflater.deflate(b"") == b"\x00"


def test_context_makes_repeated_messages_smaller() -> None:
    kept, fresh = (
        Deflater(window_bits=15, no_context_takeover=each, settings=Deflate())
        for each in (False, True)
    )
    message = TEXT[:1000]
    first, second = kept.deflate(message), kept.deflate(message)
    assert len(second) < len(first) / 5
    assert fresh.deflate(message) == fresh.deflate(message) == first


def test_level_and_memory_level_are_heard() -> None:
    def size(settings: Deflate) -> int:
        deflater = Deflater(window_bits=15, no_context_takeover=True, settings=settings)
        return len(deflater.deflate(TEXT))

    assert size(Deflate(level=0)) > len(TEXT) > size(Deflate(level=1)) > size(Deflate(level=9))
    assert size(Deflate(memory_level=1)) != size(Deflate(memory_level=9))


@given(
    st.binary(max_size=3000),
    st.integers(0, 9),
    st.integers(1, 9),
    st.sampled_from([zlib.Z_DEFAULT_STRATEGY, zlib.Z_HUFFMAN_ONLY, zlib.Z_FIXED]),
)
def test_no_sender_needs_more_than_the_allowance(
    payload: bytes, level: int, memory_level: int, strategy: int
) -> None:
    compressor = zlib.compressobj(level, zlib.DEFLATED, -15, memory_level, strategy)
    data = compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)
    assert len(data) <= deflated_bytes_max(len(payload))


# -- inflation (section 7.2.2), within a bound ---------------------------------------------------


def test_a_message_is_inflated_piece_by_piece() -> None:
    data = deflated(TEXT)
    inflater = Inflater(no_context_takeover=True)
    room, pieces = len(TEXT), []
    for at in range(0, len(data), 7):
        pieces.append(inflater.inflate(data[at : at + 7], room))
        room -= len(pieces[-1])
    pieces.append(inflater.finish(room))
    assert b"".join(pieces) == TEXT


@pytest.mark.parametrize("size", [0, 1, 100, 70_000])
def test_the_room_is_exact(size: int) -> None:
    data = deflated(bytes(size))
    inflater = Inflater(no_context_takeover=True)
    assert inflater.inflate(data, size) + inflater.finish(0) == bytes(size)
    if size:
        with pytest.raises(MessageTooBig):
            Inflater(no_context_takeover=True).inflate(data, size - 1)


def test_the_room_counts_over_streams_that_end() -> None:
    data = final_block(bytes(60)) * 2
    assert Inflater(no_context_takeover=True).inflate(data, 120) == bytes(120)
    with pytest.raises(MessageTooBig):
        Inflater(no_context_takeover=True).inflate(data, 119)


def test_a_bomb_takes_no_more_memory_than_the_room() -> None:
    data = deflated(bytes(50_000_000))
    tracemalloc.start()
    try:
        with pytest.raises(MessageTooBig):
            Inflater(no_context_takeover=True).inflate(data, 2**20)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * 2**20


def test_a_bomb_of_many_ended_streams_takes_no_more_memory_than_the_room() -> None:
    data = final_block(bytes(1000)) * 10_000
    tracemalloc.start()
    try:
        with pytest.raises(MessageTooBig):
            Inflater(no_context_takeover=True).inflate(data, 2**20)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * 2**20


def test_ended_streams_cost_in_proportion_to_their_number() -> None:
    """Two bytes each; zlib hands back all that follows, so slices bound what is copied."""

    def spent(count: int) -> float:
        inflater = Inflater(no_context_takeover=True)
        start = time.process_time()
        assert inflater.inflate(final_block(b"") * count, 0) == b""
        return time.process_time() - start

    small = min(spent(20_000) for _ in range(3))
    assert min(spent(160_000) for _ in range(2)) < 24 * small


@pytest.mark.parametrize("no_takeover", [False, True])
def test_context_of_many_messages(no_takeover: bool) -> None:
    compressor = Compressor(takeover=not no_takeover)
    inflater = Inflater(no_context_takeover=no_takeover)
    for number in range(300):
        message = b"message %d of three hundred" % number
        data = compressor.message(message)
        assert inflater.inflate(data, 100) + inflater.finish(100) == message


def test_what_is_not_deflate_is_the_peers_mistake() -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        Inflater(no_context_takeover=True).inflate(b"\xff\xff", 100)
    assert caught.value.close_code == 1007


@given(st.binary(max_size=60), st.integers(0, 500))
def test_random_bytes_raise_nothing_else_and_keep_the_room(data: bytes, room: int) -> None:
    inflater = Inflater(no_context_takeover=False)
    try:
        piece = inflater.inflate(data, room)
        piece += inflater.finish(room - len(piece))
    except (RemoteProtocolError, MessageTooBig):
        return
    assert len(piece) <= room
