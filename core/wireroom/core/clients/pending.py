"""What a client's operation waits for. Pure; imports nothing of ours."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, final


@final
class Pending:
    """Something that will happen once: a value, or an error.

    Awaiting it yields it to whoever drives the operation, who resumes it once it has `happened`
    (a hook is called then), and never before.
    """

    __slots__ = ("_error", "_hooks", "happened", "value")

    def __init__(self) -> None:
        self.happened = False
        self.value: Any = None
        self._error: Exception | None = None
        self._hooks: list[Callable[[], object]] = []

    def happen(self, value: object = None, error: Exception | None = None) -> None:
        """It happens; what happens later, if anything, is ignored."""
        if self.happened:
            return
        self.happened = True
        self.value = value
        self._error = error
        for hook in self._hooks:
            hook()
        self._hooks.clear()

    def add_hook(self, hook: Callable[[], object]) -> None:
        """Have `hook` called when it happens; at once if it has."""
        if self.happened:
            hook()
        else:
            self._hooks.append(hook)

    def __await__(self) -> Generator[Pending, None, Any]:
        while not self.happened:
            yield self
        if self._error is not None:
            raise self._error
        return self.value
