"""Operating a server: health, metrics, JSON logs and a console, put on an app in one line.

    from wireroom import operations

    ops = operations.install(app, required_checks={"store": store.problem}, console_token="…")

It adds `/healthz`, `/readyz`, `/metrics` and, with a token, `/console`. The rest of the parameters,
and what may be asked of what it gives, are in `install`; docs/deployment.md tells how to use them.
Logs are set up by the program, not by the app: `operations.logs.configure("info", "json")`.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Final, final

from wireroom.core import App, ConfigurationError, LocalProtocolError, Stopwatch

from .health import Check, CheckResult, Health
from .latency import BOUNDS_S, Histogram, Latency

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from .metrics import Metrics

__all__ = [
    "BOUNDS_S",
    "Check",
    "CheckResult",
    "Health",
    "Histogram",
    "Latency",
    "Operations",
    "install",
    "operations_of",
]

_NO_CHECKS: Final[Mapping[str, Check]] = {}


@final
class Operations:
    """What was put on an app."""

    def __init__(self, health: Health, metrics: Metrics | None) -> None:
        self.health = health
        self._metrics = metrics

    @property
    def registry(self) -> CollectorRegistry:
        """For metrics of the application's own: `Counter(..., registry=ops.registry)`.

        Raises `LocalProtocolError` if there are no metrics.
        """
        if self._metrics is None:
            raise LocalProtocolError("install() was told to leave metrics out")
        return self._metrics.registry


def install(
    app: App,
    *,
    checks: Mapping[str, Check] = _NO_CHECKS,
    required_checks: Mapping[str, Check] = _NO_CHECKS,
    metrics: bool = True,
    console_token: str | None = None,
) -> Operations:
    """Add the routes to `app`, before or after its own, and have its messages timed.

    `checks` say by name what is wrong, see `Check`; without the required ones `/readyz` is 503.
    `metrics` serves `/metrics` (`pip install wireroom[metrics]`). `console_token` is who has it a
    key to the console; None or "": there is none. An app that provides a `Stopwatch` of its own
    after this has no times in its metrics.
    Raises `ConfigurationError` for what cannot work, and for paths that the app has already.
    """
    health = Health()
    for name, check in checks.items():
        health.add_check(name, check)
    for name, check in required_checks.items():
        health.add_check(name, check, required=True)
    app.http("/healthz")(health.healthz)
    app.http("/readyz")(health.readyz)
    collected = _new_metrics(health) if metrics else None
    if collected is not None:
        app.http("/metrics")(collected.metrics)
    app.provide(Stopwatch, Latency)
    installed = Operations(health, collected)
    app.provide(Operations, lambda: installed)
    if console_token:
        from .console import install_console

        install_console(app, console_token, health, version=_version())
    return installed


def operations_of(app: App) -> Operations | None:
    """What was installed on an app, if anything was."""
    provided = app.services.get(Operations)
    found = None if provided is None else provided()
    return found if isinstance(found, Operations) else None


def _new_metrics(health: Health) -> Metrics:
    try:
        from .metrics import Metrics
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "prometheus_client":
            raise
        raise ConfigurationError(
            "metrics", "need prometheus-client: pip install wireroom[metrics], or metrics=False"
        ) from error
    return Metrics(health, _version())


def _version() -> str:
    try:
        return version("wireroom")
    except PackageNotFoundError:  # run from its sources
        return "unknown"
