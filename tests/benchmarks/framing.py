"""One small function for each framing engine and direction: what the codec benchmark times.

All do the same work: decoding takes the bytes of one masked text frame, as a server receives
them, in one piece or in reads, and ends with a `str`; encoding takes a `str` and ends with bytes
for the socket. Where a library hands its users bytes (websockets), the users' own `decode` and
`encode` are included. Each function makes a connection in its open state and returns a loop, so
that no call of ours stands between the clock and the library; the loop returns its last result, to
be checked.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from websockets.server import (  # type: ignore[import-not-found, unused-ignore]
        ServerProtocol,
    )

    from wireroom.core.wire.framing_engine import Framing

Decoding = Callable[[int], str]
Encoding = Callable[[int], bytes]


def websockets_decode(frame: bytes) -> Decoding:
    protocol = websockets_protocol()

    def run(times: int) -> str:
        text = ""
        for _ in range(times):
            protocol.receive_data(frame)
            for event in protocol.events_received():
                text = event.data.decode()  # type: ignore[union-attr, unused-ignore]
        return text

    return run


def websockets_decode_reads(reads: Sequence[bytes]) -> Decoding:
    protocol = websockets_protocol()

    def run(times: int) -> str:
        text = ""
        for _ in range(times):
            for data in reads:
                protocol.receive_data(data)
                for event in protocol.events_received():
                    text = event.data.decode()  # type: ignore[union-attr, unused-ignore]
        return text

    return run


def websockets_encode(text: str) -> Encoding:
    protocol = websockets_protocol()

    def run(times: int) -> bytes:
        data: list[bytes] = []
        for _ in range(times):
            protocol.send_text(text.encode())
            data = protocol.data_to_send()
        return b"".join(data)

    return run


def websockets_protocol() -> ServerProtocol:
    import websockets.frames  # type: ignore[import-not-found, unused-ignore]
    from websockets.protocol import OPEN  # type: ignore[import-not-found, unused-ignore]
    from websockets.server import ServerProtocol
    from websockets.speedups import (  # type: ignore[import-not-found, unused-ignore]
        apply_mask,
    )

    used = websockets.frames.apply_mask  # type: ignore[attr-defined, unused-ignore]
    if used is not apply_mask:
        raise RuntimeError("websockets does not use its C extension")
    return ServerProtocol(state=OPEN)


def wsproto_decode(frame: bytes) -> Decoding:
    from wsproto.connection import Connection, ConnectionType

    connection = Connection(ConnectionType.SERVER)

    def run(times: int) -> str:
        text = ""
        for _ in range(times):
            connection.receive_data(frame)
            for event in connection.events():
                text = event.data  # type: ignore[attr-defined]
        return text

    return run


def wsproto_decode_reads(reads: Sequence[bytes]) -> Decoding:
    from wsproto.connection import Connection, ConnectionType

    connection = Connection(ConnectionType.SERVER)

    def run(times: int) -> str:
        text = ""
        for _ in range(times):
            pieces: list[str] = []
            for data in reads:
                connection.receive_data(data)
                pieces += [event.data for event in connection.events()]  # type: ignore[attr-defined]
            text = "".join(pieces)
        return text

    return run


def wsproto_encode(text: str) -> Encoding:
    from wsproto.connection import Connection, ConnectionType
    from wsproto.events import TextMessage

    connection = Connection(ConnectionType.SERVER)

    def run(times: int) -> bytes:
        data = b""
        for _ in range(times):
            data = connection.send(TextMessage(text))
        return data

    return run


def wireroom_decode(frame: bytes) -> Decoding:
    return framing_decode(wireroom_framing(), frame)


def wireroom_decode_reads(reads: Sequence[bytes]) -> Decoding:
    return framing_decode_reads(wireroom_framing(), reads)


def wireroom_encode(text: str) -> Encoding:
    return framing_encode(wireroom_framing(), text)


def wireroom_wsproto_decode(frame: bytes) -> Decoding:
    return framing_decode(wireroom_wsproto_framing(), frame)


def wireroom_wsproto_decode_reads(reads: Sequence[bytes]) -> Decoding:
    return framing_decode_reads(wireroom_wsproto_framing(), reads)


def wireroom_wsproto_encode(text: str) -> Encoding:
    return framing_encode(wireroom_wsproto_framing(), text)


def framing_decode(framing: Framing, frame: bytes) -> Decoding:
    def run(times: int) -> str:
        text: object = ""
        for _ in range(times):
            for event in framing.receive(frame):
                text = event
        assert isinstance(text, str)
        return text

    return run


def framing_decode_reads(framing: Framing, reads: Sequence[bytes]) -> Decoding:
    def run(times: int) -> str:
        text: object = ""
        for _ in range(times):
            for data in reads:
                for event in framing.receive(data):
                    text = event
        assert isinstance(text, str)
        return text

    return run


def framing_encode(framing: Framing, text: str) -> Encoding:
    def run(times: int) -> bytes:
        data = b""
        for _ in range(times):
            data = framing.encode_message(text)
        return data

    return run


def wireroom_framing() -> Framing:
    from wireroom.core.limits import Limits
    from wireroom.core.wire.frames import FrameCodec
    from wireroom.core.wire.framing import FramingLimits

    return FrameCodec(client=False, limits=FramingLimits.of(Limits()))


def wireroom_wsproto_framing() -> Framing:
    from wireroom.core.limits import Limits
    from wireroom.core.wire.framing import FramingLimits
    from wireroom.core.wire.wsproto_framing import WsprotoFraming

    return WsprotoFraming(client=False, limits=FramingLimits.of(Limits()))


@dataclasses.dataclass(frozen=True, slots=True)
class Engine:
    """A contestant of the codec benchmark; `needs` are the modules it cannot do without."""

    name: str
    needs: tuple[str, ...]
    decode: Callable[[bytes], Decoding]
    decode_reads: Callable[[Sequence[bytes]], Decoding]
    encode: Callable[[str], Encoding]


ENGINES = (
    Engine(
        "wireroom",
        ("wireroom.core.wire.frames",),
        wireroom_decode,
        wireroom_decode_reads,
        wireroom_encode,
    ),
    Engine(
        "wireroom (wsproto)",
        ("wireroom.core.wire.wsproto_framing", "wsproto"),
        wireroom_wsproto_decode,
        wireroom_wsproto_decode_reads,
        wireroom_wsproto_encode,
    ),
    Engine(
        "websockets",
        ("websockets",),
        websockets_decode,
        websockets_decode_reads,
        websockets_encode,
    ),
    Engine("wsproto", ("wsproto",), wsproto_decode, wsproto_decode_reads, wsproto_encode),
)
