"""What must hold for a hub after every step, whatever has happened."""

from __future__ import annotations

import dataclasses

from driver import Simulation


def check_invariants(simulation: Simulation) -> None:
    """Raises `AssertionError` for what does not add up."""
    hub, peers = simulation.hub, simulation.peers
    stats, sessions = hub.stats(), hub.sessions()
    assert stats.connections == len(peers)
    assert stats.sessions == len(sessions)
    assert stats.invocations == len(simulation.running)
    counts = [count for count in dataclasses.astuple(stats) if isinstance(count, int)]
    assert min([*counts, *stats.closes.values()]) >= 0
    assert {session.fd for session in sessions} <= set(peers)
    rooms = {(session.module.path, name) for session in sessions for name in session.rooms}
    assert stats.rooms == len(rooms)
    for session in sessions:
        assert hub.session(session.fd) is session
        outbox = session.outbox
        if outbox.plain:
            assert not outbox.control
            assert not outbox.responses
            assert not session.waits_for_outbox, "nobody would tell it"
        assert session.framing is not None
        assert outbox.sharing_key == session.framing.sharing_key
        for name in session.rooms:
            members = set(session.room(name))
            assert session in members
            assert members <= set(sessions), "a room with a dead member"
    due = hub.next_timeout()
    assert due is None or due >= simulation.now, "a deadline was missed"


def check_nothing_is_left(simulation: Simulation) -> None:
    """Raises `AssertionError` if anything outlives the last connection and handler."""
    check_invariants(simulation)
    stats = simulation.hub.stats()
    assert (stats.connections, stats.sessions, stats.rooms, stats.invocations) == (0, 0, 0, 0)
    assert simulation.hub.fds_to_send() == []
    assert simulation.hub.next_output() is None
