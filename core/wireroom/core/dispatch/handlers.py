"""Handlers: what may be registered, and what a mistake in one is called. Pure.

Everything here runs once, at registration, so that a handler that cannot work stops the start
and names the place.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Sequence
from types import CoroutineType
from typing import Any, Final, Literal, TypeAlias, TypeVar

from ..errors import ConfigurationError
from ..turn import BlockingCall

Handler: TypeAlias = Callable[..., Any]
H = TypeVar("H", bound=Handler)
C = TypeVar("C", bound=type)
Loop: TypeAlias = Literal["asyncio", "trio"]

COROUTINE: Final = CoroutineType
RUNS: Final = (CoroutineType, BlockingCall)  # what a handler gives that the transport has to run


def handler_name(handler: Handler) -> str:
    """Where a handler is: `module.qualified_name`."""
    module = getattr(handler, "__module__", None)
    name = getattr(handler, "__qualname__", None) or repr(handler)
    return f"{module}.{name}" if module else name


def blocking(handler: H) -> H:
    """Mark a `def` handler that may take long: it runs in a thread, outside of the hub's step.

    Later messages of its session wait for it, as for an `async def` handler; other sessions do
    not. Sessions, rooms and users may be used in it as in any handler. On transports without
    threads it is called as others are.
    Raises `ConfigurationError` for an `async def` one.
    """
    if inspect.iscoroutinefunction(handler):
        raise ConfigurationError(f"blocking: {handler_name(handler)}", "must be def")
    handler.__wireroom_blocking__ = True  # type: ignore[attr-defined]
    return handler


def is_blocking(handler: Handler) -> bool:
    """Whether a handler was marked with `blocking`."""
    return getattr(handler, "__wireroom_blocking__", False)


def call_handler(handler: Handler, arguments: tuple[object, ...]) -> Any:
    """Call a handler, or give the `BlockingCall` of one that is marked as blocking."""
    return BlockingCall(handler, arguments) if is_blocking(handler) else handler(*arguments)


def defer(handler: Handler) -> Handler:
    """What gives a `BlockingCall` of `handler`, in place of calling it."""
    return lambda *arguments: BlockingCall(handler, arguments)


def requires_loop(*loops: Loop) -> Callable[[H], H]:
    """Mark a handler, middleware or a view that awaits what is not ours, but one of these loops'.

    An app that has it does not start on a transport that runs neither: see `check_loop`. (A handler
    that is not marked fails there when it awaits that.) Raises `ConfigurationError` for no loop.
    """
    if not loops or not set(loops) <= set(typing.get_args(Loop)):
        raise ConfigurationError(
            "requires_loop", f"must name 'asyncio', 'trio' or both, not {loops!r}"
        )

    def mark(handler: H) -> H:
        handler.__wireroom_loops__ = loops  # type: ignore[attr-defined]
        return handler

    return mark


def check_loop(handler: Handler, loop: Loop | None) -> None:
    """Raises `ConfigurationError`, for the setting `transport`, for a handler that requires another
    loop than the transport's (None: it has none)."""
    loops: tuple[str, ...] = getattr(handler, "__wireroom_loops__", ())
    if loops and loop not in loops:
        needed = " or ".join(loops)
        place = f"on {loop}" if loop else "in threads, without a loop"
        raise ConfigurationError(
            "transport",
            f"{handler_name(handler)} requires the loop of {needed} (requires_loop), and this"
            f" transport runs {place}: choose one on {needed}, or have it await only what is"
            " Wireroom's",
        )


def check_not_around_blocking(handler: Handler, middleware: list[Handler]) -> None:
    """Raises `ConfigurationError` for `async def` middleware around a blocking handler."""
    for each in middleware:
        if is_blocking(handler) and inspect.iscoroutinefunction(each):
            raise ConfigurationError(
                f"middleware {handler_name(each)}",
                f"must be def: it is around {handler_name(handler)}, which is blocking",
            )


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


def command(name: str | None = None) -> Callable[[H], H]:
    """Mark a controller's method as a command, by its own name or another."""

    def mark(method: H) -> H:
        method.__wireroom_command__ = name or method.__name__  # type: ignore[attr-defined]
        return method

    return mark


def controller(
    prefix: str = "", *, path: str | None = None, middleware: Sequence[Handler] = ()
) -> Callable[[C], C]:
    """Mark a class as a controller, for `wireroom.transports.discovery` to find.

    `path` is that of its module, where the folders do not say it; for `middleware` see
    `Module.controller`.
    """

    def mark(marked: C) -> C:
        marked.__wireroom_controller__ = (prefix, path, middleware)  # type: ignore[attr-defined]
        return marked

    return mark


def marked_commands(controller: object) -> list[tuple[str, str]]:
    """The attributes of a controller that are commands, and the commands' names."""
    return [
        (attribute, name)
        for attribute in dir(type(controller))
        if (name := getattr(getattr(type(controller), attribute), "__wireroom_command__", None))
    ]


def wrap(
    handler: Handler, middleware: list[Handler], *, asynchronous: bool | None = None
) -> Handler:
    """A handler of one argument within middleware of two, the first of which is outermost.

    In `async def` middleware `call_next` gives something to await, whatever it goes on to.
    """
    if asynchronous is None:
        asynchronous = inspect.iscoroutinefunction(handler)
    for each in reversed(middleware):
        handler = _around(each, handler, asynchronous)
        asynchronous = asynchronous or inspect.iscoroutinefunction(each)
    return handler


def _around(middleware: Handler, inner: Handler, inner_is_async: bool) -> Handler:
    if inspect.iscoroutinefunction(middleware) and not inner_is_async:

        async def call_inner(argument: Any) -> Any:
            return inner(argument)

    else:
        call_inner = inner

    def call(argument: Any) -> Any:
        return middleware(argument, lambda: call_inner(argument))

    return call


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
