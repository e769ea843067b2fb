"""Which framing engines there are, by the name that selects them. Pure."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from .deflate import Deflate, DeflateParameters
from .frames import FrameCodec
from .framing import FramingLimits, RandomBytes, no_randomness
from .framing_engine import Framing
from .wsproto_framing import WsprotoFraming

EngineName: TypeAlias = Literal["wireroom", "wsproto"]

ENGINES: Final[dict[str, type[FrameCodec] | type[WsprotoFraming]]] = {
    "wireroom": FrameCodec,
    "wsproto": WsprotoFraming,
}


def new_framing(
    engine: str,
    *,
    client: bool,
    limits: FramingLimits,
    deflate: DeflateParameters | None,
    settings: Deflate | None,
    random_bytes: RandomBytes = no_randomness,
) -> Framing:
    """The framing of a connection that has just been upgraded."""
    return ENGINES[engine](
        client=client,
        limits=limits,
        deflate=deflate,
        settings=settings,
        random_bytes=random_bytes,
    )
