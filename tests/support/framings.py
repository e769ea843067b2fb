"""Both framing engines by name, and the ways to feed a stream to one."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Final, TypeAlias

from wireroom.core.wire.deflate import Deflate, DeflateParameters
from wireroom.core.wire.engines import ENGINES as ENGINE_CLASSES
from wireroom.core.wire.framing import FrameEvent, FramingLimits, Violation
from wireroom.core.wire.framing_engine import Framing

Cut: TypeAlias = Callable[[bytes], list[bytes]]

ENGINES: Final = tuple(ENGINE_CLASSES)
NO_TAKEOVER: Final = DeflateParameters(True, True, 15, 15)
TAKEOVER: Final = DeflateParameters(False, False, 15, 15)


def keys(count: int) -> bytes:
    """A client's randomness that is none."""
    return bytes(range(0xA1, 0xA1 + count))


def framing(
    engine: str = "wireroom",
    *,
    client: bool = False,
    deflate: DeflateParameters | None = None,
    settings: Deflate | None = None,
    message_bytes_max: int = 2**20,
    frame_bytes_max: int | None = None,
    message_fragments_max: int = 1000,
    batch_messages: int = 1_000_000,
    batch_bytes: int = 2**30,
) -> Framing:
    """An engine; without other words its batches are not bounded."""
    return ENGINE_CLASSES[engine](
        client=client,
        limits=FramingLimits(
            message_bytes_max=message_bytes_max,
            frame_bytes_max=message_bytes_max if frame_bytes_max is None else frame_bytes_max,
            message_fragments_max=message_fragments_max,
            batch_messages=batch_messages,
            batch_bytes=batch_bytes,
        ),
        deflate=deflate,
        settings=settings,
        random_bytes=keys,
    )


def whole(data: bytes) -> list[bytes]:
    """In one read."""
    return [data] if data else []


def byte_by_byte(data: bytes) -> list[bytes]:
    """In as many reads as bytes."""
    return [data[index : index + 1] for index in range(len(data))]


CUTS: Final = (whole, byte_by_byte)


def cut_at(data: bytes, positions: Iterable[int]) -> list[bytes]:
    """At these positions, those beyond the end left out."""
    edges = [0, *sorted({each for each in positions if 0 < each < len(data)}), len(data)]
    return [data[start:stop] for start, stop in itertools.pairwise(edges)]


def receive(framing: Framing, reads: Iterable[bytes]) -> list[FrameEvent]:
    """Everything that the reads complete."""
    events: list[FrameEvent] = []
    for data in reads:
        events += framing.receive(data)
        while framing.more:
            events += framing.receive(b"")
    return events


def verdict(events: list[FrameEvent]) -> int | None:
    """The close code of the violation that ended the stream, or None."""
    last = events[-1] if events else None
    return last.code if isinstance(last, Violation) else None
