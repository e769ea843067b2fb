"""How long messages take: measured by a clock from outside, and without effect on the hub. Pure.

class Latency(Stopwatch): ...

app.provide(Stopwatch, Latency)     # a hub's own instance is hub.service(Stopwatch)
"""

from __future__ import annotations

from mypy_extensions import mypyc_attr


@mypyc_attr(allow_interpreted_subclasses=True)
class Stopwatch:
    """What a hub tells of each message that a command or `on_message` handles. This one measures
    nothing; an application that wants to know provides its own, with a clock."""

    __slots__ = ()

    def start(self) -> float:
        """A message is about to be handled; what this gives comes back with `stop`."""
        return 0.0

    def stop(self, handler: str, started: float) -> None:
        """Its handler, named `handler`, has ended: `def`, `async def` or blocking, however it did.
        It must not raise."""
