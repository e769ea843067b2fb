"""What is registered, for people and programs that want to know: `wireroom routes`. Pure."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, TypeAlias, final

ModuleKind: TypeAlias = Literal["module", "function", "view"]


@final
class CommandDescription(NamedTuple):
    """One command of a module. Handlers and middleware are named by where they are."""

    name: str  # empty for the default command
    handler: str
    data_type: Any  # the annotation of its data; None if it takes none
    services: tuple[Any, ...]  # the types that have to be provided
    stages: tuple[str, ...]  # where it is allowed; empty for everywhere
    middleware: tuple[str, ...]  # of its own, the outermost first
