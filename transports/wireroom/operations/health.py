"""`/healthz` and `/readyz`: whether the server is alive, and whether it should be given work.

    GET /healthz   200 {"status": "ok", "checks": {"store": "ok"}}
                   200 {"status": "degraded", "checks": {"store": "not connected"}}
    GET /readyz    200 {"status": "ready"}
                   503 {"status": "unready", "reasons": {"server": "the server is shutting down"}}

`/healthz` answers 200 as long as the process can answer at all: restarting it would not bring a
lost database back. `/readyz` is for load balancers: 503 while a required check says something, and
from `drain` on. (Once the hub itself shuts down, it takes no more requests.)
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, TypeAlias, final

import msgspec

from wireroom.core import ConfigurationError, Request, Response

logger: Final = logging.getLogger("wireroom.operations")

Check: TypeAlias = Callable[[], str | None]
"""Says what is wrong, or None. It is asked often and must not wait: it tells what is known of
another server, and does not ask it. What it raises counts as wrong, is logged, and not shown."""

DRAINING: Final = "the server is shutting down"

_HEADERS: Final = {"Cache-Control": "no-store"}


class CheckResult(NamedTuple):
    """What a check has said just now."""

    name: str
    reason: str | None  # what is wrong, if anything
    is_required: bool


@final
class Health:
    """Named checks, and whether the server is about to end."""

    def __init__(self) -> None:
        self.is_draining = False
        self._checks: dict[str, tuple[Check, bool]] = {}

    def add_check(self, name: str, check: Check, *, required: bool = False) -> None:
        """Ask `check` from now on. Without one that is `required` the server cannot work.

        Raises `ConfigurationError` for a name that is taken.
        """
        if name in self._checks or name == "server":
            raise ConfigurationError(f"check {name!r}", "there is one of this name already")
        self._checks[name] = (check, required)

    def drain(self) -> None:
        """The server will end soon: `/readyz` says so from now on, and all else goes on."""
        self.is_draining = True

    def results(self) -> list[CheckResult]:
        """What each check says now, in the order in which they were added."""
        return [
            CheckResult(name, _ask(name, check), required)
            for name, (check, required) in self._checks.items()
        ]

    def unready_reasons(self) -> dict[str, str]:
        """Why the server should be given no work, by check; empty if it should."""
        server = {"server": DRAINING} if self.is_draining else {}
        return server | {
            name: reason
            for name, reason, required in self.results()
            if required and reason is not None
        }

    # -- routes -------------------------------------------------------------------------------

    def healthz(self, request: Request) -> Response:
        """The route `/healthz`."""
        checks = {name: reason or "ok" for name, reason, _ in self.results()}
        degraded = any(answer != "ok" for answer in checks.values())
        return _json(200, {"status": "degraded" if degraded else "ok", "checks": checks})

    def readyz(self, request: Request) -> Response:
        """The route `/readyz`."""
        reasons = self.unready_reasons()
        if reasons:
            return _json(503, {"status": "unready", "reasons": reasons})
        return _json(200, {"status": "ready"})


def _ask(name: str, check: Check) -> str | None:
    try:
        return check() or None
    except Exception as error:
        logger.exception("the check %s failed", name)
        return f"the check failed with {type(error).__name__}"


def _json(status: int, body: Mapping[str, object]) -> Response:
    return Response(status, msgspec.json.encode(body), _HEADERS, content_type="application/json")
