"""permessage-deflate (RFC 7692): settings, negotiation by the letter, bounded inflation. Pure."""

from __future__ import annotations

import dataclasses
import functools
import zlib
from typing import Final, final

from ..errors import ConfigurationError, RemoteProtocolError
from .close_codes import CloseCode
from .header_grammar import ExtensionOffer, ExtensionParameter

EXTENSION_NAME: Final = "permessage-deflate"
_TAIL: Final = b"\x00\x00\xff\xff"  # section 7.2.1: removed by the sender, added by the receiver
_INFLATE_WINDOW_BITS: Final = -15  # raw; the largest window reads every smaller one
_WINDOW_SLACK: Final = 262  # bytes of its window that zlib does not look back over (MIN_LOOKAHEAD)
_SLICE: Final = 512  # bytes given to zlib at once after a stream's end, for it copies what is left


@dataclasses.dataclass(frozen=True, slots=True)
class Deflate:
    """Settings of permessage-deflate. The defaults keep no zlib state for an idle connection,
    and let a compressed frame be shared by all its receivers.

    Window bits are 9 to 15 for what we compress with and 8 to 15 for what we ask of a peer,
    `memory_level` is 1 to 9, `level` is zlib's 0 to 9. Messages shorter than `threshold_bytes`
    are sent as they are. Raises `ConfigurationError`.
    """

    server_no_context_takeover: bool = True
    client_no_context_takeover: bool = True
    server_max_window_bits: int = 15
    client_max_window_bits: int = 15
    memory_level: int = 8
    level: int = 6
    threshold_bytes: int = 64

    def __post_init__(self) -> None:
        self._check("server_max_window_bits", 9, 15)
        self._check("client_max_window_bits", 8, 15)
        self._check("memory_level", 1, 9)
        self._check("level", 0, 9)
        self._check("threshold_bytes", 0, 2**31)

    def _check(self, name: str, low: int, high: int) -> None:
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ConfigurationError(
                f"Deflate.{name}", f"must be a whole number from {low} to {high}, not {value!r}"
            )


@dataclasses.dataclass(frozen=True, slots=True)
class DeflateParameters:
    """What both sides agreed on (section 7.1)."""

    server_no_context_takeover: bool
    client_no_context_takeover: bool
    server_max_window_bits: int
    client_max_window_bits: int


def _window_bits(value: str | None) -> int | None:
    """8 to 15 as a decimal without leading zeros (section 7.1.2), or None if it is not that."""
    return int(value) if value in ("8", "9", "10", "11", "12", "13", "14", "15") else None


def _read_parameters(parameters: tuple[ExtensionParameter, ...]) -> dict[str, int] | None:
    """The parameters by name; None if any is unknown, duplicate or invalid.

    Flags become 1, window bits their number, `client_max_window_bits` without a value 0.
    """
    read: dict[str, int] = {}
    for name, value in parameters:
        if name in read:
            return None
        if name in ("server_no_context_takeover", "client_no_context_takeover"):
            if value is not None:
                return None
            read[name] = 1
        elif name == "client_max_window_bits" and value is None:
            read[name] = 0
        elif name in ("server_max_window_bits", "client_max_window_bits"):
            bits = _window_bits(value)
            if bits is None:
                return None
            read[name] = bits
        else:
            return None
    return read


def negotiate(
    offers: list[ExtensionOffer], settings: Deflate
) -> tuple[DeflateParameters, str] | None:
    """The server's choice: the first offer that is valid, and the response's header value.

    An offer with unknown, duplicate or invalid parameters is declined and the next is
    considered (section 7.1); None declines all.
    """
    for offer in offers:
        if offer.name != EXTENSION_NAME:
            continue
        read = _read_parameters(offer.parameters)
        if read is not None:
            return _agree(read, settings)
    return None


def _agree(offered: dict[str, int], settings: Deflate) -> tuple[DeflateParameters, str]:
    response = [EXTENSION_NAME]
    server_no_takeover = (
        settings.server_no_context_takeover or "server_no_context_takeover" in offered
    )
    if server_no_takeover:
        response.append("server_no_context_takeover")
    client_no_takeover = (
        settings.client_no_context_takeover or "client_no_context_takeover" in offered
    )
    if client_no_takeover:
        response.append("client_no_context_takeover")
    server_bits = settings.server_max_window_bits
    if "server_max_window_bits" in offered:
        server_bits = min(server_bits, offered["server_max_window_bits"])
        response.append(f"server_max_window_bits={server_bits}")
    client_bits = 15
    if "client_max_window_bits" in offered:  # only then may we ask for fewer (7.1.2.2)
        client_bits = min(settings.client_max_window_bits, offered["client_max_window_bits"] or 15)
        if client_bits < 15:
            response.append(f"client_max_window_bits={client_bits}")
    parameters = DeflateParameters(server_no_takeover, client_no_takeover, server_bits, client_bits)
    return parameters, "; ".join(response)


def offer(settings: Deflate) -> str:
    """The client's offer, as a header value (section 7.1)."""
    parts = [EXTENSION_NAME]
    if settings.server_no_context_takeover:
        parts.append("server_no_context_takeover")
    if settings.client_no_context_takeover:
        parts.append("client_no_context_takeover")
    if settings.server_max_window_bits < 15:
        parts.append(f"server_max_window_bits={settings.server_max_window_bits}")
    parts.append("client_max_window_bits")
    return "; ".join(parts)


def accept_response(
    parameters: tuple[ExtensionParameter, ...], settings: Deflate
) -> DeflateParameters:
    """The client's reading of the server's response (section 7.1).

    Raises `RemoteProtocolError` for a response that does not correspond to our offer.
    """
    read = _read_parameters(parameters)
    if read is None:
        raise RemoteProtocolError("permessage-deflate: the response has invalid parameters")
    if read.get("client_max_window_bits") == 0:
        raise RemoteProtocolError("permessage-deflate: client_max_window_bits has no value")
    server_no_takeover = "server_no_context_takeover" in read
    if settings.server_no_context_takeover and not server_no_takeover:
        raise RemoteProtocolError("permessage-deflate: server_no_context_takeover was required")
    server_bits = read.get("server_max_window_bits", 15)
    if server_bits > settings.server_max_window_bits:
        raise RemoteProtocolError("permessage-deflate: server_max_window_bits is above our offer")
    return DeflateParameters(
        server_no_context_takeover=server_no_takeover,
        client_no_context_takeover=settings.client_no_context_takeover
        or "client_no_context_takeover" in read,
        server_max_window_bits=server_bits,
        client_max_window_bits=min(
            settings.client_max_window_bits, read.get("client_max_window_bits", 15)
        ),
    )


def deflated_bytes_max(size: int) -> int:
    """What a sender may make of `size` bytes at worst.

    Fixed Huffman codes take 9 bits for some bytes; zlib's stored blocks add 5 bytes to each 127
    at its lowest memory level.
    """
    return size + (size >> 3) + 64


class MessageTooBig(Exception):  # noqa: N818 - not an error of ours, a verdict on the peer
    """The inflated message would pass its bound."""


@final
class Deflater:
    """Compresses our messages (section 7.2.1)."""

    __slots__ = ("_compressor", "_keep", "_level", "_memory_level", "_strategy", "_window_bits")

    def __init__(self, *, window_bits: int, no_context_takeover: bool, settings: Deflate) -> None:
        # zlib has no raw window of 8 bits. Without matches there is no distance to be too long,
        # so Huffman coding alone is valid in any window.
        self._strategy = zlib.Z_HUFFMAN_ONLY if window_bits == 8 else zlib.Z_DEFAULT_STRATEGY
        self._window_bits = max(9, window_bits)
        self._level = settings.level
        self._memory_level = settings.memory_level
        self._keep = not no_context_takeover
        self._compressor: zlib._Compress | None = None

    def deflate(self, payload: bytes) -> bytes:
        """The payload of one compressed message."""
        compressor = self._compressor
        if compressor is None:
            window_bits = self._window_bits
            memory_level = self._memory_level
            if not self._keep:
                # No more than this message can use: of 256 KiB, most would be cleared for nothing.
                size = len(payload)
                window_bits = max(9, min(window_bits, (size + _WINDOW_SLACK).bit_length()))
                memory_level = max(1, min(memory_level, size.bit_length() - 6))
            compressor = zlib.compressobj(
                self._level, zlib.DEFLATED, -window_bits, memory_level, self._strategy
            )
            if self._keep:
                self._compressor = compressor
        data = compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)
        return data[: -len(_TAIL)]  # of an empty message a byte is left (section 7.2.3.6)


@functools.lru_cache(maxsize=256)
def shared_deflater(window_bits: int, settings: Deflate) -> Deflater:
    """The one for all connections with this setting and no context takeover, which leaves nothing
    of a message behind: what it makes of a message is the same for all of them."""
    return Deflater(window_bits=window_bits, no_context_takeover=True, settings=settings)


@final
class Inflater:
    """Decompresses the peer's messages (section 7.2.2), piece by piece and within a bound."""

    __slots__ = ("_decompressor", "_keep")

    def __init__(self, *, no_context_takeover: bool) -> None:
        self._keep = not no_context_takeover
        self._decompressor: zlib._Decompress | None = None

    def inflate(self, data: bytes, room: int) -> bytes:
        """Inflate a piece of a message, to at most `room` bytes.

        Raises `MessageTooBig` before more than that is held, and `RemoteProtocolError` (1007)
        for data that is not DEFLATE.
        """
        pieces: list[bytes] = []
        position = 0
        end = stop = len(data)
        while True:
            decompressor = self._decompressor
            if decompressor is None:
                decompressor = self._decompressor = zlib.decompressobj(_INFLATE_WINDOW_BITS)
            try:
                piece = decompressor.decompress(data[position:stop], room + 1)
            except zlib.error as error:
                raise RemoteProtocolError(
                    "the compressed data is invalid", close_code=CloseCode.INVALID_PAYLOAD_DATA
                ) from error
            room -= len(piece)
            if room < 0:
                raise MessageTooBig
            if piece:
                pieces.append(piece)
            position = stop
            if decompressor.eof:
                # A block with BFINAL ended the stream (section 7.2.3.4); the next starts anew.
                position -= len(decompressor.unused_data)
                self._decompressor = None
            if position == end:
                return b"".join(pieces)
            stop = min(position + _SLICE, end)

    def finish(self, room: int) -> bytes:
        """Inflate what the end of the message still releases (section 7.2.2)."""
        rest = self.inflate(_TAIL, room)
        if not self._keep:
            self._decompressor = None
        return rest
