"""Commands, contexts, users and presence under anything that can happen: a hypothesis machine.

After every step: no context is left behind, users and rooms are exactly those of the open sessions,
nobody gets what was not for them, and the counters agree.
"""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from driver import Foreign, Peer, Simulation
from wireroom.core import Accept, App, Context, Limits, Request, current_context, current_session

USERS = ("ann", "bob", "eve")
INDEX = st.integers(0, 50)


class CommandsMachine(RuleBasedStateMachine):
    """One hub, its peers, and every context that was ever made."""

    def __init__(self) -> None:
        super().__init__()
        self.contexts: list[Context] = []
        self.foreign = Foreign()
        self.simulation = Simulation(self._make_app())
        self.peers: list[Peer] = []
        self.users: dict[Peer, str] = {}
        self.number = 0

    def _make_app(self) -> App:
        app = App(limits=Limits(close_timeout_s=5.0), fd_policy="lowest")
        module = app.module("/{user}", presence=True)

        @module.on_handshake
        def bind(request: Request) -> Accept:
            return Accept(user=request.path_params["user"])

        @module.middleware
        def seen(ctx: Context, call_next: Any) -> Any:
            self.contexts.append(ctx)
            assert current_context() is ctx
            return call_next()

        @module.command("plain")
        def plain(ctx: Context) -> dict[str, Any]:
            return {"for": ctx.user}

        @module.command("raises")
        def raises(ctx: Context) -> None:
            raise ValueError("on purpose")

        @module.command("waits")
        async def waits(ctx: Context) -> dict[str, Any]:
            await self.foreign
            assert current_context() is ctx
            assert current_session() is ctx.session
            return {"for": ctx.user}

        @module.command("sleeps")
        async def sleeps(ctx: Context) -> None:
            await ctx.sleep(3.0)
            raise ValueError("on purpose")

        @module.command("joins")
        def joins(ctx: Context) -> None:
            ctx.session.join("room")

        @module.command("tells")
        def tells(ctx: Context, data: dict[str, Any]) -> None:
            ctx.hub.user(data["whom"]).send({"for": data["whom"]})

        @module.command("closes")
        def closes(ctx: Context) -> None:
            ctx.session.close()

        return app

    @rule(user=st.sampled_from(USERS))
    def connect(self, user: str) -> None:
        peer = self.simulation.open(f"/{user}")
        self.peers.append(peer)
        self.users[peer] = user

    @precondition(lambda self: self.peers)
    @rule(
        index=INDEX,
        command=st.sampled_from(
            ["plain", "raises", "waits", "sleeps", "joins", "tells", "closes", "unknown"]
        ),
        request=st.booleans(),
        whom=st.sampled_from(USERS),
    )
    def say(self, index: int, command: str, request: bool, whom: str) -> None:
        message: dict[str, Any] = {"type": command, "whom": whom}
        self.number += 1
        if request:
            message["request_id"] = self.number
        peer = self.peers[index % len(self.peers)]
        if peer.close_frame is None:
            peer.send(msgspec.json.encode(message).decode())

    @precondition(lambda self: self.peers)
    @rule(index=INDEX, how=st.sampled_from(["lose", "close", "eof"]))
    def leave(self, index: int, how: str) -> None:
        peer = self.peers.pop(index % len(self.peers))
        if peer.lost or how == "lose":
            if not peer.lost:
                peer.lose()
        elif how == "close" and peer.close_frame is None:
            peer.close(1000)
        else:
            peer.send_eof()

    @rule()
    def complete(self) -> None:
        self.simulation.complete(self.foreign)

    @rule(seconds=st.sampled_from([0.5, 3.0, 6.0]))
    def wait(self, seconds: float) -> None:
        self.simulation.advance(seconds)

    @invariant()
    def no_context_is_left_behind(self) -> None:
        stats = self.simulation.hub.stats()
        under_way = [context for context in self.contexts if not context.is_over]
        assert stats.contexts == len(under_way) == stats.invocations

    @invariant()
    def users_and_rooms_are_those_of_the_open_sessions(self) -> None:
        hub = self.simulation.hub
        sessions = hub.sessions()
        for user in USERS:
            assert hub.user(user).sessions == [each for each in sessions if each.user == user]
        assert hub.stats().users == len({session.user for session in sessions})
        assert hub.stats().sessions == len(sessions)
        if sessions:
            room = sessions[0].room("room")
            members = {(member.fd, member.user) for member in room.presence()}
            assert members == {(each.fd, each.user) for each in sessions if "room" in each.rooms}

    @invariant()
    def nobody_gets_what_was_for_somebody_else(self) -> None:
        for peer, user in self.users.items():
            for message in peer.messages:
                content = msgspec.json.decode(message)
                content = content.get("data") or content if isinstance(content, dict) else {}
                assert content.get("for", user) == user

    def teardown(self) -> None:
        self.simulation.complete(self.foreign)
        self.simulation.end()
        self.simulation.advance(20.0)
        stats = self.simulation.hub.stats()
        assert (stats.contexts, stats.invocations, stats.users, stats.rooms) == (0, 0, 0, 0)
        assert {str(error) for error in self.simulation.failures} <= {"on purpose"}


TestCommands = CommandsMachine.TestCase
TestCommands.settings = settings(
    max_examples=60,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
