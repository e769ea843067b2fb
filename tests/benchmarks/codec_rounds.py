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

SIZES = {"64 B": 64, "1 KiB": 1024, "16 KiB": 16 * 1024, "64 KiB": 64 * 1024, "1 MiB": 2**20}
READ_BYTES = 64 * 1024  # of what comes in reads
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
        """Add a sample: microseconds a message.

        Caches and allocator are as those before have left them, so half as much goes untimed first.
        """
        self.loop(self.times // 2 + 1)
        self.entry.samples.append(elapsed_ns(self.loop, self.times) / self.times / 1000)


def measure(
    engines: Sequence[Engine], rounds: int, sample_s: float, progress: Callable[[str], None]
) -> list[Table]:
    """Decode and encode one text of each size; decode the longest in several reads, too."""
    tables: list[Table] = []
    contestants: list[Contestant] = []
    with on_server_core():
        cases = [(direction, label) for direction in ("decode", "encode") for label in SIZES]
        for direction, label in [*cases, ("decode in reads", "1 MiB")]:
            table = empty_table(direction, label, engines)
            tables.append(table)
            contestants += prepare(table.entries, engines, direction, SIZES[label], sample_s)
        for number in range(rounds):
            progress(f"round {number + 1} of {rounds}: codecs")
            for contestant in contestants:
                contestant.measure()
    return tables


def empty_table(direction: str, size: str, engines: Sequence[Engine]) -> Table:
    """The table for one direction and size, with nothing measured yet."""
    title = f"encode one text of {size}"
    if direction != "encode":
        reads = "" if direction == "decode" else f", in reads of {READ_BYTES // 1024} KiB"
        title = f"decode one masked text of {size}{reads}"
    return Table(
        key=f"{direction} {size}",
        title=title,
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
    frame = masked_frame(text.encode())
    if direction == "decode":
        loop = engine.decode(frame)
        right = loop(2) == text
    elif direction == "encode":
        loop = engine.encode(text)
        right = loop(2) == frame_header(len(text), masked=False) + text.encode()
    else:
        reads = [frame[at : at + READ_BYTES] for at in range(0, len(frame), READ_BYTES)]
        loop = engine.decode_reads(reads)
        right = loop(2) == text
    if not right:
        raise RuntimeError(f"{engine.name}: wrong result of {direction}")
    return loop


def repetitions(loop: Loop, sample_s: float) -> int:
    """How often to repeat so that one sample takes about so long.

    The shortest of three counts: with one slow first call a sample would be that call alone.
    """
    times = 1
    while (elapsed := min(elapsed_ns(loop, times) for _ in range(3))) < sample_s * 1e9 / 4:
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
