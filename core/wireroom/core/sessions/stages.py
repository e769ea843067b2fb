"""Stages: where an application's own protocol stands with a session, as a checked table. Pure.

class Stage(Enum):
    CONNECTING = "connecting"
    AUTHENTICATED = "authenticated"
    IN_ROOM = "in room"

Stages(Stage.CONNECTING, {
    Stage.CONNECTING: [Stage.AUTHENTICATED],
    Stage.AUTHENTICATED: [Stage.IN_ROOM],
    Stage.IN_ROOM: [Stage.AUTHENTICATED],
})
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import final

from ..errors import ConfigurationError, LocalProtocolError


@final
class Stages:
    """The stage that a session begins in, and which may follow which.

    Raises `ConfigurationError` for a stage that can never be reached.
    """

    def __init__(self, initial: Enum, transitions: Mapping[Enum, Iterable[Enum]]) -> None:
        self.initial = initial
        self._transitions = {stage: frozenset(after) for stage, after in transitions.items()}
        reached = {initial}
        unseen = [initial]
        while unseen:
            for stage in self._transitions.get(unseen.pop(), ()):
                if stage not in reached:
                    reached.add(stage)
                    unseen.append(stage)
        lost = [stage for stage in type(initial) if stage not in reached]
        if lost:
            raise ConfigurationError("stages", f"{lost[0]} can never be reached from {initial}")

    @property
    def transitions(self) -> dict[Enum, frozenset[Enum]]:
        """Which stages may follow which."""
        return dict(self._transitions)

    def check(self, before: Enum, after: Enum) -> None:
        """Raises `LocalProtocolError` if `after` may not follow `before`."""
        if after not in self._transitions.get(before, ()):
            raise LocalProtocolError(f"the stage cannot change from {before} to {after}")
