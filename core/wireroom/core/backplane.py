"""What a hub and its backplane say to each other: how several nodes are one server. Pure values.

A transport hands the outputs to the backplane, in order, and gives what comes back to
`Hub.deliver`. Channels are names that nodes subscribe to. On some of them nodes publish bytes to
each other; on those of rooms with history messages are also appended, which numbers and keeps them.

A backplane has to do this: carry out the outputs of a node in order; give the node what is
published and appended to the channels that it is subscribed to; say `BackplaneLost` when that is no
longer sure, and `BackplaneConnected` when it is again (the hub then subscribes to all of its
channels anew, and says again what was not `Confirmed`). What is appended twice under one number by
one node is kept once.
"""

from __future__ import annotations

import dataclasses
from math import isfinite
from typing import Final, Literal, TypeAlias

from .errors import ConfigurationError

WhenAway: TypeAlias = Literal["queue", "refuse"]

_WHEN_AWAY: Final = ("queue", "refuse")


@dataclasses.dataclass(frozen=True, slots=True)
class BackplaneSettings:
    """How a hub uses a backplane. Raises `ConfigurationError`.

    While it is away, `when_away` has what must reach other nodes wait ("queue"), at most
    `queue_messages_max` and `queue_bytes_max`, or be refused ("refuse") with
    `BackplaneAwayError`, as it is beyond those bounds. A node that has not been heard of for
    `lease_s` seconds is dead to the others; each says that it lives three times as often.
    `recover_timeout_s` is how long `Session.recover` waits for the backplane.
    """

    when_away: WhenAway = "queue"
    queue_messages_max: int = 10_000
    queue_bytes_max: int = 16 * 2**20
    lease_s: float = 15.0
    recover_timeout_s: float = 5.0

    def __post_init__(self) -> None:
        if self.when_away not in _WHEN_AWAY:
            raise ConfigurationError("when_away", f"must be one of {', '.join(_WHEN_AWAY)}")
        for name in ("queue_messages_max", "queue_bytes_max"):
            if getattr(self, name) < 1:
                raise ConfigurationError(name, "must be at least 1")
        for name in ("lease_s", "recover_timeout_s"):
            seconds = getattr(self, name)
            if not isfinite(seconds) or seconds <= 0:
                raise ConfigurationError(name, f"must be a number of seconds, not {seconds!r}")


# -- outputs: the hub to the backplane ---------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class Subscribe:
    """Give this node what is published and appended to the channel from now on."""

    channel: str


@dataclasses.dataclass(frozen=True, slots=True)
class Unsubscribe:
    """Nobody here listens to the channel any more."""

    channel: str


@dataclasses.dataclass(frozen=True, slots=True)
class Publish:
    """Give `payload` to every node that is subscribed, this one included or not. Nothing is kept.

    With a `number`, which rise, it is to be `Confirmed`; with 0 it may be lost.
    """

    channel: str
    payload: bytes
    number: int


@dataclasses.dataclass(frozen=True, slots=True)
class Append:
    """Number a message, keep it with the channel's newest `messages_max` for `age_s` seconds, as
    many as have at most `bytes_max` together, and give it to every node that is subscribed, this
    one included."""

    channel: str
    message: str
    number: int
    messages_max: int
    age_s: float
    bytes_max: int


@dataclasses.dataclass(frozen=True, slots=True)
class ReadHistory:
    """Say what a channel keeps of the messages after the offset `after`, as it is when all that
    came before this is carried out. None asks for its newest position alone.

    If its epoch is `renew`, its history is not what a node knows it was: begin another first.
    """

    channel: str
    number: int
    after: int | None
    age_s: float
    renew: str = ""


# -- inputs: the backplane to the hub ----------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class BackplaneConnected:
    """It is there, and knows of no subscriptions."""


@dataclasses.dataclass(frozen=True, slots=True)
class BackplaneLost:
    """It is away. What was asked of it and not answered may have been done or not."""

    why: str


@dataclasses.dataclass(frozen=True, slots=True)
class Confirmed:
    """What had this number, and all before it, was carried out."""

    number: int


@dataclasses.dataclass(frozen=True, slots=True)
class Published:
    """A `Publish` of some node, perhaps our own."""

    channel: str
    payload: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class Appended:
    """An `Append` of some node, perhaps our own."""

    channel: str
    message: str
    offset: int
    epoch: str


@dataclasses.dataclass(frozen=True, slots=True)
class HistoryRead:
    """The answer to `ReadHistory` of this number: the newest `offset`, and the `messages` up to
    it, without gaps."""

    channel: str
    number: int
    epoch: str
    offset: int
    messages: list[str]


BackplaneOutput: TypeAlias = Subscribe | Unsubscribe | Publish | Append | ReadHistory
BackplaneInput: TypeAlias = (
    BackplaneConnected | BackplaneLost | Confirmed | Published | Appended | HistoryRead
)
