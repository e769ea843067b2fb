"""Several hubs and a backplane that loses, delays, doubles and restarts, driven by hypothesis.

Clients note where they stand, as a real one does. Each hears every message of the room once and in
order, or is told that some are missing; and when all is quiet, all stand at the same place.
"""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from backplane import MemoryBackplane, Node
from driver import Peer
from wireroom.core import (
    App,
    BackplaneSettings,
    Context,
    History,
    Position,
    Recovery,
)
from wireroom.core.backplane import Appended

NODES = 2
CLIENTS = 3
NODE = st.integers(0, NODES - 1)
CLIENT = st.integers(0, CLIENTS - 1)
CHANNEL = "room:1:/:a"
BYTES_MAX = 400  # of some five messages with their positions, and of more without


class Enter(msgspec.Struct):
    position: Position | None = None


class Said(msgspec.Struct, tag_field="type", tag="said"):
    text: str


def make_app() -> App:
    app = App()
    module = app.module("/", history=History(messages_max=6, age_s=1000.0, bytes_max=BYTES_MAX))

    @module.command("enter")
    async def enter(ctx: Context, data: Enter) -> Recovery:
        return await ctx.session.recover("a", data.position)

    return app


class Client:
    """Somebody who comes, goes, and comes back."""

    def __init__(self) -> None:
        self.peer: Peer | None = None
        self.node: Node | None = None
        self.position: Any = None
        self.heard: list[tuple[str, int, str]] = []  # epoch, offset, text
        self.is_in = False  # whether the room was entered, since it came
        self.told = 0  # how often, that messages are missed

    def come(self, node: Node) -> None:
        self.node = node
        self.peer = node.open("/")
        self.is_in = False
        position = msgspec.json.encode(self.position).decode()
        self.peer.send(f'{{"type":"enter","request_id":1,"position":{position}}}')

    def go(self) -> None:
        if self.peer is not None:
            self.listen()
            self.peer.lose()
            self.peer = None

    def listen(self) -> None:
        """What has come is what should."""
        if self.peer is None:
            return
        for message in map(msgspec.json.decode, self.peer.messages):
            self._take(message)
        self.peer.messages.clear()

    def _take(self, message: Any) -> None:
        before = self.position
        if message["type"] == "reply":
            self.is_in = True
            data = message["data"]
            if data["recovered"] and before is not None:
                assert data["position"] == before, "something was left out"
            self.position = data["position"]
            return
        position = {name: message["position"][name] for name in ("offset", "epoch")}
        if message["type"] == "said":
            assert before is not None
            assert position["epoch"] == before["epoch"], "it was not told of another history"
            assert position["offset"] == before["offset"] + 1, "doubled, or left out"
            self.heard.append((position["epoch"], position["offset"], message["text"]))
        else:
            assert message["type"] == "messages_missed"
            self.told += 1
        self.position = position


class BackplaneMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self.rolled_back: set[str] = set()  # epochs in which messages were lost

    @initialize(said=st.integers(0, 8))
    def begin(self, said: int) -> None:
        self.backplane = MemoryBackplane(BackplaneSettings(recover_timeout_s=5.0))
        self.nodes = [self.backplane.node(make_app(), is_up=False) for _ in range(NODES)]
        self.speakers = [node.open("/") for node in self.nodes]
        self.clients = [Client() for _ in range(CLIENTS)]
        for link in self.backplane.links:
            link.connect()
        for index, client in enumerate(self.clients[1:]):
            client.come(self.nodes[index])
        self.backplane.settle()
        if said:
            self.say(0, said, carry=True)
            self.backplane.settle()
        self.listen()

    def teardown(self) -> None:
        if not hasattr(self, "clients"):
            return
        for link in self.backplane.links:
            if not link.is_up:
                link.connect()
        self.backplane.advance(6.0)
        self.listen()
        told = {client: client.told for client in self.clients}
        for index in range(NODES):
            self.say(index, 1, carry=True)
        self.backplane.settle()
        self.listen()
        kept = self.backplane.kept[CHANNEL]
        for client in self.clients:
            if client.peer is not None:
                assert client.is_in
                assert client.position == {"offset": kept.offset, "epoch": kept.epoch}
                last = [msgspec.json.decode(message)["text"] for message in kept.messages[-NODES:]]
                heard = [text for _, _, text in client.heard[-NODES:]]
                assert heard == last or client.told > told[client]
        for node in self.nodes:
            assert not node.failures
            assert node.hub.stats().waiting_publishes == 0
            assert not node.running
        self.check_texts()

    def check_texts(self) -> None:
        """All that was said was kept; a place has one message, and a message one place."""
        appended = {msgspec.json.decode(each.message)["text"] for each in self.backplane.appended}
        assert appended == {str(number + 1) for number in range(self.count)}
        texts: dict[tuple[str, int], str] = {}
        places: dict[tuple[str, str], int] = {}
        for client in self.clients:
            for epoch, offset, text in client.heard:
                if epoch not in self.rolled_back:
                    assert texts.setdefault((epoch, offset), text) == text
                    assert places.setdefault((epoch, text), offset) == offset

    def listen(self) -> None:
        for client in self.clients:
            client.listen()

    # -- people -------------------------------------------------------------------------------

    @rule(index=CLIENT, node=NODE)
    def come(self, index: int, node: int) -> None:
        client = self.clients[index]
        client.go()
        client.come(self.nodes[node])

    @rule(index=CLIENT)
    def go(self, index: int) -> None:
        self.clients[index].go()

    @rule(index=NODE, count=st.integers(1, 8), carry=st.booleans())
    def say(self, index: int, count: int, carry: bool) -> None:
        node = self.nodes[index]
        room = node.session(self.speakers[index]).room("a")
        for _ in range(count):
            self.count += 1
            room.broadcast(Said(str(self.count)))
        node.settle()
        while carry and node.link.requests:
            node.link.carry_request()

    # -- the backplane ------------------------------------------------------------------------

    @rule(index=NODE, count=st.integers(1, 10))
    def carry_requests(self, index: int, count: int) -> None:
        link = self.nodes[index].link
        for _ in range(min(count, len(link.requests))):
            link.carry_request()
        self.listen()

    @rule(index=NODE, count=st.integers(1, 10))
    def carry_replies(self, index: int, count: int) -> None:
        link = self.nodes[index].link
        for _ in range(min(count, len(link.replies))):
            link.carry_reply()
        self.listen()

    @rule(index=NODE, count=st.integers(1, 10))
    def carry_events(self, index: int, count: int) -> None:
        link = self.nodes[index].link
        for _ in range(min(count, len(link.events))):
            link.carry_event()
        self.listen()

    @rule()
    def settle(self) -> None:
        self.backplane.settle()
        self.listen()

    @rule(index=NODE)
    def cut(self, index: int) -> None:
        self.nodes[index].link.cut()

    @rule(index=NODE)
    def connect(self, index: int) -> None:
        link = self.nodes[index].link
        if not link.is_up:
            link.connect()

    @rule(index=NODE, which=st.integers(0, 5), how=st.sampled_from(["lost", "twice", "late"]))
    def spoil(self, index: int, which: int, how: str) -> None:
        """A message does not come, comes twice, or after others."""
        events = self.nodes[index].link.events
        if which < len(events) and isinstance(event := events[which], Appended):
            if how != "twice":
                del events[which]
            if how != "lost":
                events.append(event)

    @precondition(lambda self: self.backplane.kept)
    @rule(lost=st.one_of(st.none(), st.integers(1, 3)))
    def restart(self, lost: int | None) -> None:
        """It forgets all, or its last messages; nodes that were cut stay so."""
        up = [link.is_up for link in self.backplane.links]
        if lost is not None:
            self.rolled_back |= {kept.epoch for kept in self.backplane.kept.values()}
        self.backplane.restart(lost=lost)
        for link, was_up in zip(self.backplane.links, up, strict=True):
            if not was_up:
                link.cut()
        self.listen()

    @rule(seconds=st.sampled_from([0.5, 4.0, 20.0]))
    def advance(self, seconds: float) -> None:
        for node in self.nodes:
            node.advance(seconds)
        self.listen()


def test_every_message_once_and_in_order_or_told() -> None:
    run_state_machine_as_test(
        BackplaneMachine,
        settings=settings(
            max_examples=150,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
