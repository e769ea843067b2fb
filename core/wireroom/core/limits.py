"""Every bound in one place. Pure values; imports only `errors`.

Each field is a bound with its unit last in its name. What happens at the bound is in the
field's comment; nothing is ever dropped without being counted in `hub.stats()`.
"""

from __future__ import annotations

import dataclasses
import math

from .errors import ConfigurationError


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one hub. Times are seconds; `math.inf` switches a timeout off.

    Raises `ConfigurationError`, which names the field, for values that cannot work.
    """

    # -- HTTP head (RFC 9112) -----------------------------------------------------------------
    head_bytes_max: int = 16 * 1024  # request line and headers; beyond: 431
    head_headers_max: int = 100  # beyond: 431
    head_timeout_s: float = 10.0  # from the connection (or the next head's first byte); then 408
    keep_alive_timeout_s: float = 30.0  # idle between two plain HTTP requests; then disconnect
    handshake_timeout_s: float = 30.0  # for the application to accept or answer; then 503

    # -- messages (RFC 6455 section 5) --------------------------------------------------------
    message_bytes_max: int = 2**20  # after inflation too; beyond: close 1009
    frame_bytes_max: int | None = None  # None: as message_bytes_max; beyond: close 1009
    message_fragments_max: int = 4096  # frames a message; beyond: close 1009
    pongs_pending_max: int = 16  # unsent Pongs; beyond: the oldest go (section 5.5.3)

    # -- queues -------------------------------------------------------------------------------
    inbox_messages_max: int = 64  # not yet handled; beyond: the peer is not read from
    inbox_bytes_max: int = 256 * 1024  # the same in bytes; one message always fits
    outbox_mark_bytes: int = 64 * 1024  # above: `await send()` waits, and the peer is not read from
    outbox_bytes_max: int | None = None  # None: 4 * message_bytes_max; beyond: close 1008

    # -- time ---------------------------------------------------------------------------------
    ping_interval_s: float = 20.0  # silence after which we send a Ping
    ping_timeout_s: float = 20.0  # silence after that Ping; then close 1011
    stall_timeout_s: float = 20.0  # no progress with unsent bytes; then abort
    close_timeout_s: float = 10.0  # from our Close, or a violation, to the end; then abort
    close_reply_timeout_s: float = 1.0  # a peer's Close waits this long for earlier messages

    # -- numbers ------------------------------------------------------------------------------
    connections_max: int = 16_000_000  # at most the range of ids; beyond: 503
    broadcast_page_max: int = 10_000  # `hub.broadcast` sends to so many a turn
    rooms_per_session_max: int = 1024  # beyond: `join` raises LocalProtocolError
    room_sessions_max: int = 16_000_000  # in one room; beyond: the same

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is None:
                if field.default is not None:
                    raise ConfigurationError(f"Limits.{field.name}", "must be a number, not None")
                continue
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ConfigurationError(f"Limits.{field.name}", f"must be a number, not {value!r}")
            if field.name.endswith("_s"):
                if math.isnan(value) or value <= 0:
                    raise ConfigurationError(
                        f"Limits.{field.name}", f"must be more than 0 seconds, not {value!r}"
                    )
            elif not isinstance(value, int) or value < 1:
                raise ConfigurationError(
                    f"Limits.{field.name}", f"must be a whole number of at least 1, not {value!r}"
                )
        if self.frame_bytes > self.message_bytes_max:
            raise ConfigurationError(
                "Limits.frame_bytes_max", "must not be more than Limits.message_bytes_max"
            )

    @property
    def frame_bytes(self) -> int:
        """`frame_bytes_max`, resolved."""
        return self.message_bytes_max if self.frame_bytes_max is None else self.frame_bytes_max

    @property
    def outbox_bytes(self) -> int:
        """`outbox_bytes_max`, resolved."""
        return (
            4 * self.message_bytes_max if self.outbox_bytes_max is None else self.outbox_bytes_max
        )
