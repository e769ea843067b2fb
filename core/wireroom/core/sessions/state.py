"""A place for the application's own attributes, one object a session. Pure."""

from __future__ import annotations

from typing import Any


class SessionState:
    """Attributes of the application's own: `state.x = 1`, `state.x`, `del state.x`."""

    def __getattr__(self, name: str) -> Any:
        raise self._missing(name)  # called for what is not there

    def __delattr__(self, name: str) -> None:
        if name not in self.__dict__:
            raise self._missing(name)
        object.__delattr__(self, name)

    def __repr__(self) -> str:
        return f"<SessionState {self.__dict__!r}>"

    def _missing(self, name: str) -> AttributeError:
        return AttributeError(
            f"the session's state has no {name!r}: nothing has set it", name=name, obj=self
        )
