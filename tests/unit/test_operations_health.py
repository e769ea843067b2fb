"""/healthz and /readyz, and what `install` puts on an app."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable

import msgspec
import pytest

from driver import Simulation
from http_responses import HttpResponse, read_response
from raw import get, request
from wireroom import operations
from wireroom.core import App, ConfigurationError, LocalProtocolError
from wireroom.operations import Operations, operations_of


def ask(simulation: Simulation, path: str, *headers: str) -> HttpResponse:
    peer = simulation.connect()
    peer.send_raw(get(path, *headers))
    return read_response(bytes(peer.received))


def says(response: HttpResponse) -> object:
    assert response.headers["content-type"] == "application/json"
    assert response.headers["cache-control"] == "no-store"
    return msgspec.json.decode(response.body)


class State:
    """What a check knows."""

    def __init__(self) -> None:
        self.problem: str | None = None

    def check(self) -> str | None:
        return self.problem


def test_a_server_without_checks_is_well() -> None:
    app = App()
    operations.install(app)
    simulation = Simulation(app)
    assert says(ask(simulation, "/healthz")) == {"status": "ok", "checks": {}}
    assert says(ask(simulation, "/readyz")) == {"status": "ready"}


def test_a_check_degrades_and_a_required_one_takes_readiness() -> None:
    backplane, store = State(), State()
    app = App()
    operations.install(
        app, checks={"backplane": backplane.check}, required_checks={"store": store.check}
    )
    simulation = Simulation(app)
    well = {"backplane": "ok", "store": "ok"}
    assert says(ask(simulation, "/healthz")) == {"status": "ok", "checks": well}

    backplane.problem = "not connected"
    health = ask(simulation, "/healthz")
    assert health.status == 200
    assert says(health) == {"status": "degraded", "checks": {**well, "backplane": "not connected"}}
    assert ask(simulation, "/readyz").status == 200

    store.problem = "no disk"
    assert ask(simulation, "/healthz").status == 200  # alive all the same
    ready = ask(simulation, "/readyz")
    assert ready.status == 503
    assert says(ready) == {"status": "unready", "reasons": {"store": "no disk"}}

    store.problem = backplane.problem = None
    assert ask(simulation, "/readyz").status == 200


def test_it_is_unready_once_it_drains() -> None:
    app = App()
    ops = operations.install(app)
    simulation = Simulation(app)
    ops.health.drain()
    ready = ask(simulation, "/readyz")
    assert ready.status == 503
    assert says(ready) == {
        "status": "unready",
        "reasons": {"server": "the server is shutting down"},
    }
    assert ask(simulation, "/healthz").status == 200


def test_a_check_that_raises_is_wrong_and_its_words_are_not_shown(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken() -> str | None:
        raise RuntimeError("postgresql://me:hush@host")

    app = App()
    operations.install(app, required_checks={"store": broken})
    simulation = Simulation(app)
    with caplog.at_level(logging.ERROR, "wireroom.operations"):
        response = ask(simulation, "/readyz")
    assert response.status == 503
    assert b"hush" not in response.body
    assert b"the check failed with RuntimeError" in response.body
    assert "hush" in caplog.text
    assert simulation.failures == []


def test_checks_may_come_later_but_not_twice() -> None:
    ops = operations.install(App(), checks={"store": State().check})
    ops.health.add_check("backplane", State().check)
    for name in ("store", "backplane", "server"):
        with pytest.raises(ConfigurationError, match=name):
            ops.health.add_check(name, State().check)


def test_other_methods_are_not_allowed() -> None:
    app = App()
    operations.install(app)
    simulation = Simulation(app)
    peer = simulation.connect()
    peer.send_raw(request("POST", "/readyz", "Content-Length: 0"))
    assert read_response(bytes(peer.received)).status == 405
    peer = simulation.connect()
    peer.send_raw(request("HEAD", "/readyz"))
    assert read_response(bytes(peer.received), "HEAD").status == 200


# -- install ----------------------------------------------------------------------------------


def test_what_is_installed_can_be_found() -> None:
    app = App()
    assert operations_of(app) is None
    ops = operations.install(app)
    assert operations_of(app) is ops
    assert Simulation(app).hub.service(Operations) is ops


def clash(app: App) -> None:
    app.http("/healthz")(lambda request: "ok")


@pytest.mark.parametrize("before", [clash, operations.install])
def test_paths_that_are_taken_are_named(before: Callable[[App], object]) -> None:
    app = App()
    before(app)
    with pytest.raises(ConfigurationError, match="/healthz"):
        operations.install(app)


def test_metrics_can_be_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    monkeypatch.delitem(sys.modules, "wireroom.operations.metrics", raising=False)
    with pytest.raises(ConfigurationError, match=r"pip install wireroom\[metrics\]"):
        operations.install(App())
    app = App()
    ops = operations.install(app, metrics=False)
    assert ask(Simulation(app), "/metrics").status == 404
    with pytest.raises(LocalProtocolError):
        _ = ops.registry
