"""An app on the transport that was chosen by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from wireroom.core import App, ConfigurationError

from ..drain import ShutdownReport

TRANSPORTS: Final = ("asyncio", "uvloop", "anyio-asyncio", "trio", "blocking")


class Listening(Protocol):
    """A server of any transport; see `Drain` for what may be changed before it ends."""

    close_code: int
    linger_s: float

    @property
    def addresses(self) -> Sequence[Any]:
        """Where it listens, as `socket.getsockname()` gives it."""


def run_on(
    transport: str, app: App, *, on_ready: Callable[[Listening], object], **options: Any
) -> ShutdownReport:
    """Serve until SIGINT or SIGTERM; a second one ends it at once.

    `options` are those of the transports' `serve`. Raises `ConfigurationError`, also for a
    transport whose library is not installed.
    """
    try:
        run = _runner(transport)
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library == "wireroom":
            raise
        raise ConfigurationError(
            "transport", f"{transport} needs {library}: pip install {library}"
        ) from error
    return run(app, on_ready=on_ready, **options)


def _runner(transport: str) -> Callable[..., ShutdownReport]:
    """`run` of a transport, imported only when it is asked for."""
    match transport:
        case "asyncio":
            from ..asyncio import run

            return run
        case "uvloop":
            import uvloop  # noqa: F401 # whether it is there

            from ..asyncio import run

            return lambda app, **options: run(app, uvloop=True, **options)
        case "anyio-asyncio":
            from .. import anyio

            return anyio.run
        case "trio":
            import trio  # noqa: F401 # whether it is there

            from .. import trio as trio_transport

            return trio_transport.run
        case _:
            from ..blocking import serve

            return serve
