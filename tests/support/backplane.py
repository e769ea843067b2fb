"""Several hubs joined in memory: a backplane that loses, delays and restarts as a test says.

backplane = MemoryBackplane()
one, two = backplane.node(app), backplane.node(app)
peer = one.open("/")
backplane.settle()

Each node has a `Link`, with what is on the way to the backplane and back in queues. `settle`
carries all of it; a test may carry it piece by piece.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from itertools import count

from driver import Simulation
from wireroom.core import App, BackplaneSettings, Output
from wireroom.core.backplane import (
    Append,
    Appended,
    BackplaneConnected,
    BackplaneInput,
    BackplaneLost,
    BackplaneOutput,
    Confirmed,
    HistoryRead,
    Publish,
    Published,
    ReadHistory,
    Subscribe,
    Unsubscribe,
)


@dataclasses.dataclass
class Kept:
    """One channel's history."""

    epoch: str
    offset: int = 0
    messages: list[str] = dataclasses.field(default_factory=list)
    numbers: dict[str, int] = dataclasses.field(default_factory=dict)  # by node: the last


class Node(Simulation):
    """A hub of several, and what links it to them."""

    def __init__(self, app: App, link: Link, name: str, settings: BackplaneSettings) -> None:
        self.link = link
        super().__init__(app, epoch=name, backplane=settings)
        self.name = name

    def _carry_out(self, output: Output) -> None:
        if isinstance(output, BackplaneOutput):
            if self.link.is_up:
                self.link.requests.append(output)
        else:
            super()._carry_out(output)


class Link:
    """One node's connections to the backplane: one for commands, one for what is published."""

    def __init__(self, backplane: MemoryBackplane) -> None:
        self.backplane = backplane
        self.node: Node
        self.is_up = False
        self.requests: deque[BackplaneOutput] = deque()
        self.replies: deque[BackplaneInput] = deque()
        self.events: deque[BackplaneInput] = deque()
        self.channels: set[str] = set()

    def connect(self) -> None:
        """The backplane is there (again)."""
        assert not self.is_up
        self.is_up = True
        self._deliver(BackplaneConnected())

    def cut(self) -> None:
        """All that is on its way is lost."""
        if self.is_up:
            self.is_up = False
            for queue in (self.requests, self.replies, self.events, self.channels):
                queue.clear()
            self._deliver(BackplaneLost("cut"))

    def carry_request(self) -> None:
        """The node's next request is done."""
        self.backplane.do(self, self.requests.popleft())

    def carry_reply(self) -> None:
        """The next answer arrives."""
        self._deliver(self.replies.popleft())

    def carry_event(self) -> None:
        """The next publication arrives."""
        self._deliver(self.events.popleft())

    def _deliver(self, event: BackplaneInput) -> None:
        self.node.hub.deliver(event, now=self.node.now)
        self.node.settle()


class MemoryBackplane:
    """What all nodes share."""

    def __init__(self, settings: BackplaneSettings | None = None) -> None:
        self.settings = settings or BackplaneSettings()
        self.links: list[Link] = []
        self.kept: dict[str, Kept] = {}
        self.published: list[Publish] = []
        self.appended: list[Append] = []
        self._names = count(1)
        self._epochs = count(1)

    def node(self, app: App, *, is_up: bool = True) -> Node:
        """Another node, whose clock is that of the others."""
        link = Link(self)
        link.node = Node(app, link, f"n{next(self._names)}", self.settings)
        if self.links:
            link.node.now = self.links[0].node.now
        self.links.append(link)
        link.node.hub.start(now=link.node.now)
        if is_up:
            link.connect()
            self.settle()
        return link.node

    def settle(self) -> None:
        """Carry all that is on its way."""
        busy = True
        while busy:
            busy = False
            for link in self.links:
                for queue, carry in (
                    (link.requests, link.carry_request),
                    (link.replies, link.carry_reply),
                    (link.events, link.carry_event),
                ):
                    while queue:
                        busy = True
                        carry()

    def advance(self, seconds: float) -> None:
        """Let time pass for all nodes, a second at most at a time."""
        while seconds > 0:
            step = min(seconds, 1.0)
            for link in self.links:
                link.node.advance(step)
            self.settle()
            seconds -= step

    def kill(self, node: Node) -> None:
        """The node is gone, and says nothing of it."""
        self.links.remove(node.link)

    def restart(self, *, lost: int | None = None) -> None:
        """It ends, and comes back without its histories, or without their last messages."""
        for link in self.links:
            link.cut()
        if lost is None:
            self.kept.clear()
        else:
            for kept in self.kept.values():
                dropped = min(lost, kept.offset)
                kept.offset -= dropped
                del kept.messages[max(0, len(kept.messages) - dropped) :]
                kept.numbers.clear()
        for link in self.links:
            link.connect()

    def do(self, link: Link, request: BackplaneOutput) -> None:
        """Carry out one request of a node."""
        match request:
            case Subscribe():
                link.channels.add(request.channel)
            case Unsubscribe():
                link.channels.discard(request.channel)
            case Publish():
                self.published.append(request)
                self.give(request.channel, Published(request.channel, request.payload))
                if request.number:
                    link.replies.append(Confirmed(request.number))
            case Append():
                self._append(link, request)
                link.replies.append(Confirmed(request.number))
            case ReadHistory():
                link.replies.append(self._read(request))

    def _history(self, channel: str) -> Kept:
        if channel not in self.kept:
            self.kept[channel] = Kept(f"e{next(self._epochs)}")
        return self.kept[channel]

    def _append(self, link: Link, request: Append) -> None:
        kept = self._history(request.channel)
        if request.number <= kept.numbers.get(link.node.name, 0):
            return
        self.appended.append(request)
        kept.numbers[link.node.name] = request.number
        kept.offset += 1
        kept.messages.append(request.message)
        del kept.messages[: -request.messages_max]
        while sum(len(each.encode()) for each in kept.messages) > request.bytes_max:
            del kept.messages[0]
        event = Appended(request.channel, request.message, kept.offset, kept.epoch)
        self.give(request.channel, event)

    def _read(self, request: ReadHistory) -> HistoryRead:
        kept = self._history(request.channel)
        if request.renew == kept.epoch:
            del self.kept[request.channel]
            kept = self._history(request.channel)
        messages: list[str] = []
        if request.after is not None and request.after < kept.offset:
            messages = kept.messages[-(kept.offset - request.after) :]
        return HistoryRead(request.channel, request.number, kept.epoch, kept.offset, list(messages))

    def give(self, channel: str, event: BackplaneInput) -> None:
        """Put an event on the way to who is subscribed."""
        for link in self.links:
            if channel in link.channels:
                link.events.append(event)
