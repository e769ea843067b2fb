"""Times the framing engines of framing.py, in this process, taking turns within each round."""

from __future__ import annotations

import dataclasses
import gc
import struct
import time
from collections.abc import Callable, Sequence

from framing import Engine
from processes import missing_module, on_server_core
from results import Entry, Table

SIZES = {"64 B": 64, "1 KiB": 1024, "16 KiB": 16 * 1024, "1 MiB": 2**20}
REFERENCES = ("websockets", "wsproto")
MASKING_KEY = b"\x37\xfa\x21\x3d"
PATTERN = "0123456789abcdef"

Loop = Callable[[int], object]


@dataclasses.dataclass(frozen=True, slots=True)
class Contestant:
    """One engine in one table, ready to be timed `times` times in a row."""

    entry: Entry
    loop: Loop
    times: int

    def measure(self) -> None:
        """Add a sample: microseconds a message."""
        self.entry.samples.append(elapsed_ns(self.loop, self.times) / self.times / 1000)


def measure(
    engines: Sequence[Engine], rounds: int, sample_s: float, progress: Callable[[str], None]
) -> list[Table]:
    """Decode and encode one text of each size."""
    tables: list[Table] = []
    contestants: list[Contestant] = []
    with on_server_core():
        for direction in ("decode", "encode"):
            for label, size in SIZES.items():
                table = empty_table(direction, label, engines)
                tables.append(table)
                contestants += prepare(table.entries, engines, direction, size, sample_s)
        for number in range(rounds):
            progress(f"round {number + 1} of {rounds}: codecs")
            for contestant in contestants:
                contestant.measure()
    return tables


def empty_table(direction: str, size: str, engines: Sequence[Engine]) -> Table:
    """The table for one direction and size, with nothing measured yet."""
    what = "masked text" if direction == "decode" else "text"
    return Table(
        key=f"{direction} {size}",
        title=f"{direction} one {what} of {size}",
        unit="µs",
        smaller_is_better=True,
        references=REFERENCES,
        entries=[Entry(engine.name, missing=missing_module(engine.needs)) for engine in engines],
    )


def prepare(
    entries: Sequence[Entry], engines: Sequence[Engine], direction: str, size: int, sample_s: float
) -> list[Contestant]:
    """The engines that are installed, each with as many repetitions as fill a sample."""
    contestants = []
    for entry, engine in zip(entries, engines, strict=True):
        if not entry.missing:
            loop = checked_loop(engine, direction, PATTERN * (size // len(PATTERN)))
            contestants.append(Contestant(entry, loop, repetitions(loop, sample_s)))
    return contestants


def checked_loop(engine: Engine, direction: str, text: str) -> Loop:
    """The loop to be timed, after a look at its result: nobody wins by doing something else."""
    loop: Loop
    if direction == "decode":
        loop = engine.decode(masked_frame(text.encode()))
        right = loop(2) == text
    else:
        loop = engine.encode(text)
        right = loop(2) == frame_header(len(text), masked=False) + text.encode()
    if not right:
        raise RuntimeError(f"{engine.name}: wrong result of {direction}")
    return loop


def repetitions(loop: Loop, sample_s: float) -> int:
    """How often to repeat so that one sample takes about so long."""
    times = 1
    while (elapsed := elapsed_ns(loop, times)) < sample_s * 1e9 / 4:
        times *= 2
    return max(1, round(times * sample_s * 1e9 / elapsed))


def elapsed_ns(loop: Loop, times: int) -> int:
    """The time of one sample, without garbage collection in it."""
    gc.collect()
    gc.disable()
    try:
        start = time.perf_counter_ns()
        loop(times)
        return time.perf_counter_ns() - start
    finally:
        gc.enable()


def frame_header(length: int, *, masked: bool) -> bytes:
    """The header of a final text frame, RFC 6455 section 5.2."""
    mask_bit = 0x80 if masked else 0
    if length < 126:
        return struct.pack("!BB", 0x81, mask_bit | length)
    if length < 2**16:
        return struct.pack("!BBH", 0x81, mask_bit | 126, length)
    return struct.pack("!BBQ", 0x81, mask_bit | 127, length)


def masked_frame(payload: bytes) -> bytes:
    """A final text frame as a client sends it; the payload's length is a multiple of four."""
    key = MASKING_KEY * (len(payload) // len(MASKING_KEY))
    number = int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")
    masked = number.to_bytes(len(payload), "big")
    return frame_header(len(payload), masked=True) + MASKING_KEY + masked
