"""This hub as one of several nodes: what it says to the backplane, and what comes from there. Pure.

A node is subscribed to the channels of the rooms and users that it has sessions of, and to one that
all share. What must arrive waits here until the backplane has confirmed it, and is said again after
it was away.
"""

from __future__ import annotations

from collections import deque
from typing import Final, Protocol, final

import msgspec

from ..backplane import (
    Append,
    Appended,
    BackplaneConnected,
    BackplaneInput,
    BackplaneSettings,
    Confirmed,
    HistoryRead,
    Publish,
    Published,
    ReadHistory,
    Subscribe,
    Unsubscribe,
)
from ..errors import BackplaneAwayError
from ..turn import Turn
from .envelopes import Alive, CloseUser, Envelope, ToSessions, decode, encode
from .positions import History
from .stats import Stats

ALL: Final = "all"  # the channel of every node
_BEATS: Final = 3  # a lease is renewed so often while it lasts


class Subscriber(Protocol):
    """Who a channel is subscribed to for."""

    def receive(self, envelope: Envelope) -> None:
        """Another node said something, once."""

    def appended(self, event: Appended) -> None:
        """A message was numbered; perhaps not for the first time, or not the next."""

    def history_read(self, event: HistoryRead) -> None:
        """What `read` has asked for."""

    def connected(self) -> None:
        """What came meanwhile was not received, but what comes from now on is."""

    def lost(self) -> None:
        """Nothing comes until `connected`."""

    def node_ended(self, node: str) -> None:
        """A node has not been heard of for its lease."""


@final
class Node:
    """The link to other nodes. `name` is no other's."""

    __slots__ = (
        "_heard",
        "_is_connected",
        "_numbers",
        "_said",
        "_subscribers",
        "_waiting",
        "_waiting_bytes",
        "name",
        "settings",
        "stats",
        "turn",
    )

    def __init__(self, name: str, settings: BackplaneSettings, turn: Turn, stats: Stats) -> None:
        self.name = name
        self.settings = settings
        self.turn = turn
        self.stats = stats
        self._is_connected = False
        self._subscribers: dict[str, Subscriber] = {}
        self._waiting: deque[Publish | Append] = deque()  # not confirmed
        self._waiting_bytes = 0
        self._numbers = 0
        self._said: dict[str, dict[str, int]] = {}  # by channel and node: the last number
        self._heard: dict[str, float] = {}  # by node: when

    @property
    def is_connected(self) -> bool:
        """Whether the backplane is there."""
        return self._is_connected

    # -- what the hub's parts say ---------------------------------------------------------------

    def subscribe(self, channel: str, subscriber: Subscriber) -> None:
        """Have what comes on a channel given to `subscriber`."""
        self._subscribers[channel] = subscriber
        if self._is_connected:
            self.turn.put(Subscribe(channel))

    def unsubscribe(self, channel: str) -> None:
        """Listen to a channel no more."""
        if self._subscribers.pop(channel, None) is not None:
            self._said.pop(channel, None)
            if self._is_connected:
                self.turn.put(Unsubscribe(channel))

    def publish(self, channel: str, envelope: Envelope) -> None:
        """Say something that is for now: it is lost if the backplane is away."""
        if self._is_connected:
            self.turn.put(Publish(channel, encode(envelope), 0))
        else:
            self.stats.dropped_publishes += 1

    def next_number(self) -> int:
        """For an envelope of `publish_surely`."""
        return self._numbers + 1

    def publish_surely(self, channel: str, envelope: ToSessions | CloseUser) -> None:
        """Say something that must arrive, numbered with `next_number`.

        Raises `BackplaneAwayError`.
        """
        payload = encode(envelope)
        self.check_away(len(payload))
        self._numbers += 1
        self._put(Publish(channel, payload, self._numbers), len(payload))

    def append(self, channel: str, message: str, history: History) -> None:
        """Have a message numbered, kept and given to all. Raises `BackplaneAwayError`."""
        self.check_away(len(message))
        self._numbers += 1
        self._put(
            Append(
                channel,
                message,
                self._numbers,
                history.messages_max,
                history.age_s,
                history.bytes_max,
            ),
            len(message),
        )

    def read(self, channel: str, after: int | None, age_s: float, renew: str) -> int:
        """Ask for history; the number of the answer, which is told to the channel's subscriber.
        0 if the backplane is away."""
        if not self._is_connected:
            return 0
        number = self.turn.next_number()
        self.turn.put(ReadHistory(channel, number, after, age_s, renew))
        return number

    def check_away(self, size: int = 0) -> None:
        """Raises `BackplaneAwayError` if nothing more can be said that must arrive."""
        settings = self.settings
        if not self._is_connected and settings.when_away == "refuse":
            self.stats.refused_publishes += 1
            raise BackplaneAwayError("the backplane is away")
        if (
            len(self._waiting) >= settings.queue_messages_max
            or self._waiting_bytes + size > settings.queue_bytes_max
        ):
            self.stats.refused_publishes += 1
            raise BackplaneAwayError(
                f"{len(self._waiting)} messages wait for the backplane"
                " (BackplaneSettings.queue_messages_max, queue_bytes_max)"
            )

    def _put(self, item: Publish | Append, size: int) -> None:
        self._waiting.append(item)
        self._waiting_bytes += size
        self.stats.waiting_publishes = len(self._waiting)
        if self._is_connected:
            self.turn.put(item)

    # -- what the backplane says ------------------------------------------------------------------

    def deliver(self, event: BackplaneInput) -> None:
        """Something came from the backplane."""
        if isinstance(event, Appended):
            subscriber = self._subscribers.get(event.channel)
            if subscriber is not None:
                subscriber.appended(event)
        elif isinstance(event, Published):
            self._receive(event)
        elif isinstance(event, Confirmed):
            self._confirm(event.number)
        elif isinstance(event, HistoryRead):
            subscriber = self._subscribers.get(event.channel)
            if subscriber is not None:
                subscriber.history_read(event)
        elif isinstance(event, BackplaneConnected):
            self._connect()
        elif self._is_connected:
            self._lose()

    def _receive(self, event: Published) -> None:
        try:
            envelope = decode(event.payload)
        except msgspec.DecodeError:  # another program's, or another version's
            self.stats.bad_publishes += 1
            return
        node = envelope.node
        if node == self.name:
            return
        self._heard[node] = self.turn.now
        subscriber = self._subscribers.get(event.channel)
        if subscriber is None or isinstance(envelope, Alive):
            return
        if isinstance(envelope, ToSessions | CloseUser):
            said = self._said.setdefault(event.channel, {})
            if envelope.number <= said.get(node, 0):
                return  # it was said again, in case it had not arrived
            said[node] = envelope.number
        subscriber.receive(envelope)

    def _confirm(self, number: int) -> None:
        waiting = self._waiting
        while waiting and waiting[0].number <= number:
            item = waiting.popleft()
            size = len(item.message) if isinstance(item, Append) else len(item.payload)
            self._waiting_bytes -= size
        self.stats.waiting_publishes = len(waiting)

    def _connect(self) -> None:
        if self._is_connected:
            self._lose()
        self._is_connected = True
        self._heard = dict.fromkeys(self._heard, self.turn.now)
        for channel in self._subscribers:
            self.turn.put(Subscribe(channel))
        for subscriber in list(self._subscribers.values()):
            subscriber.connected()
        for item in self._waiting:
            self.turn.put(item)
        self.beat()

    def _lose(self) -> None:
        self._is_connected = False
        self.stats.backplane_losses += 1
        for subscriber in list(self._subscribers.values()):
            subscriber.lost()

    # -- leases -----------------------------------------------------------------------------------

    def beat(self) -> None:
        """Say that we live, and see who does not; called when it is due."""
        now = self.turn.now
        lease_s = self.settings.lease_s
        self.turn.deadlines.set(self, now + lease_s / _BEATS)
        if not self._is_connected:
            return  # nobody can be heard
        self.publish(ALL, Alive(self.name))
        for node, heard in list(self._heard.items()):
            if heard + lease_s <= now:
                del self._heard[node]
                for said in self._said.values():
                    said.pop(node, None)
                for subscriber in list(self._subscribers.values()):
                    subscriber.node_ended(node)


def room_channel(path: str, name: str) -> str:
    """Of a room in the module with this path; no other's."""
    return f"room:{len(path)}:{path}:{name}"


def user_channel(user_id: str | int) -> str:
    """Of a user; no other's."""
    return f"user:{'int' if isinstance(user_id, int) else 'str'}:{user_id}"
