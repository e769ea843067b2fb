"""What stands between a server's hub and its backplane, on every transport."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias, final

import anyio

from wireroom.core import BackplaneSettings
from wireroom.core.backplane import BackplaneInput, BackplaneOutput

Deliver: TypeAlias = Callable[[Sequence[BackplaneInput]], None]
"""Gives the hub what came from the backplane, and has it drained."""


class Backplane(Protocol):
    """What joins this server's hub to others; see `wireroom.core.backplane` for what it says.

    One object serves one server at a time.
    """

    @property
    def settings(self) -> BackplaneSettings:
        """How the hub uses it."""

    def problem(self) -> str | None:
        """Why it is away, for a health check; None if it is there."""

    async def run(self, link: Link) -> None:
        """Carry out what the hub says (`link.take`) and give it what comes (`link.deliver`), on
        asyncio or trio, until cancelled. It connects, and connects again, by itself."""


@final
class Link:
    """One server's end. Raises nothing."""

    def __init__(self, node: str, deliver: Deliver) -> None:
        self.node = node  # the hub's name, which no other has
        self._deliver = deliver
        self._outputs: deque[BackplaneOutput] = deque()
        self._more: anyio.Event | None = None  # what `take` waits for
        # Has a function called in the backplane's thread, if that is one of its own.
        self.call_soon: Callable[[Callable[[], object]], object] | None = None

    def put(self, output: BackplaneOutput) -> None:
        """The hub says something; in the hub's thread."""
        self._outputs.append(output)
        if len(self._outputs) == 1:
            if self.call_soon is not None:
                self.call_soon(self._wake)
            else:
                self._wake()

    def _wake(self) -> None:
        if self._more is not None:
            self._more.set()

    async def take(self) -> list[BackplaneOutput]:
        """What the hub has said since, in order; waits until it is something."""
        while not self._outputs:
            self._more = anyio.Event()
            if self._outputs:  # since it was looked, by another thread
                break
            await self._more.wait()
        self._more = None
        taken: list[BackplaneOutput] = []
        while self._outputs:
            taken.append(self._outputs.popleft())
        return taken

    def deliver(self, *events: BackplaneInput) -> None:
        """Something came, for the hub."""
        self._deliver(events)

    def clear(self) -> None:
        """Forget what was said and not taken: the hub will say it again."""
        self._outputs.clear()
