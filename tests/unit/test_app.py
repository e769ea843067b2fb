"""An app: settings and registrations that cannot work stop the start and name the place."""

from __future__ import annotations

from typing import Any

import pytest

from driver import Simulation
from http_responses import read_response
from raw import get
from wireroom.core import App, ConfigurationError, Hub, Limits, Request, Session, WebSocket


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("framing", "other"),
        ("origins", "https://example.com"),
        ("fd_max", 0),
        ("fd_policy", "newest"),
    ],
)
def test_a_setting_that_cannot_work_is_named(setting: str, value: Any) -> None:
    with pytest.raises(ConfigurationError) as raised:
        App(**{setting: value})
    assert raised.value.setting == setting


def test_a_configuration_error_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="framing"):
        App(framing="other")  # type: ignore[arg-type]  # on purpose


def test_origins_of_a_module_are_checked_too() -> None:
    with pytest.raises(ConfigurationError, match="origins"):
        App().module("/", origins="https://example.com")
    with pytest.raises(ConfigurationError, match="origins"):
        App().websocket("/", origins="https://example.com")(_function)


async def _function(ws: WebSocket) -> None:
    ws.accept()


def test_a_path_belongs_to_one_module_or_function() -> None:
    app = App()
    app.module("/a")
    app.websocket("/b")(_function)
    for path in ("/a", "/b"):
        with pytest.raises(ConfigurationError, match="same paths"):
            app.module(path)
        with pytest.raises(ConfigurationError, match="same paths"):
            app.websocket(path)(_function)


def test_a_route_and_a_module_may_share_a_path() -> None:
    app = App()
    app.http("/")(lambda request: "page")
    app.module("/").on_open(lambda session: session.send("hello"))
    simulation = Simulation(app)
    browser = simulation.connect()
    browser.send_raw(get("/"))
    assert read_response(bytes(browser.received)).body == b"page"
    assert simulation.open("/").messages == ["hello"]


def test_two_routes_of_one_path_are_refused() -> None:
    app = App()
    app.http("/{a}")(lambda request: None)
    with pytest.raises(ConfigurationError, match="same paths"):
        app.http("/{b}")(lambda request: None)


def test_registering_gives_the_handler_back() -> None:
    def route(request: Request) -> None: ...

    assert App().websocket("/")(_function) is _function
    assert App().http("/")(route) is route


def test_a_hub_checks_what_only_shows_at_the_end() -> None:
    app = App()
    module = app.module("/")
    module.on_message(lambda session, message: None)
    Hub(app)
    module.command("a")(lambda ctx: None)
    with pytest.raises(ConfigurationError, match="module /"):
        Hub(app)


def test_the_defaults_are_the_documented_ones() -> None:
    app = App()
    assert app.limits == Limits()
    assert (app.framing, app.fd_policy, app.fd_max) == ("wireroom", "rising", 16_000_000)
    assert app.origins is None


def test_one_app_runs_in_several_hubs_that_share_nothing() -> None:
    app = App()
    module = app.module("/")

    @module.on_open
    def joined(session: Session) -> None:
        session.join("room")

    @module.on_message
    def say(session: Session, message: str) -> None:
        session.room("room").broadcast(message)

    one, two = Simulation(app), Simulation(app)
    first, second = one.open("/"), two.open("/")
    first.send("hello")
    assert (first.messages, second.messages) == (["hello"], [])
    assert two.hub.stats().messages_received == 0
