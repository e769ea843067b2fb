"""Handlers: what may be registered, and what a mistake in one is called. Pure.

Everything here runs once, at registration, so that a handler that cannot work stops the start
and names the place.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from types import CoroutineType
from typing import Any, Final, TypeAlias, TypeVar

from ..errors import ConfigurationError

Handler: TypeAlias = Callable[..., Any]
H = TypeVar("H", bound=Handler)

COROUTINE: Final = CoroutineType


def handler_name(handler: Handler) -> str:
    """Where a handler is: `module.qualified_name`."""
    module = getattr(handler, "__module__", None)
    name = getattr(handler, "__qualname__", None) or repr(handler)
    return f"{module}.{name}" if module else name


def check_arity(handler: Handler, what: str, names: tuple[str, ...]) -> None:
    """Raises `ConfigurationError` unless `handler` can be called with these arguments."""
    try:
        inspect.signature(handler).bind(*names)
    except TypeError as error:
        raise ConfigurationError(
            f"{what} {handler_name(handler)}", f"must take ({', '.join(names)})"
        ) from error
    if inspect.isasyncgenfunction(handler) or inspect.isgeneratorfunction(handler):
        raise ConfigurationError(
            f"{what} {handler_name(handler)}", "must be def or async def, not a generator"
        )


def positional_parameters(handler: Handler) -> list[inspect.Parameter]:
    """The parameters that a positional argument can fill."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [each for each in inspect.signature(handler).parameters.values() if each.kind in kinds]


def annotation_of(handler: Handler, parameter: str, what: str) -> Any:
    """The resolved annotation of a parameter. Raises `ConfigurationError` if it has none."""
    function = inspect.unwrap(handler)
    call = function if inspect.isroutine(function) else type(function).__call__
    try:
        hints = typing.get_type_hints(call, include_extras=True)
    except NameError as error:
        raise ConfigurationError(
            f"{what} {handler_name(handler)}",
            f"the annotation of {parameter!r} cannot be resolved: {error}",
        ) from error
    if parameter not in hints:
        raise ConfigurationError(
            f"{what} {handler_name(handler)}",
            f"parameter {parameter!r} needs an annotation: the type that the data must have",
        )
    return hints[parameter]
