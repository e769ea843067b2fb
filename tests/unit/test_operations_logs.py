"""Logs as JSON: one object a line, whatever is logged."""

from __future__ import annotations

import io
import json
import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from driver import Simulation
from wireroom.core import Accept, App, ConfigurationError, Context, Request
from wireroom.operations import logs

logger = logging.getLogger("of_the_test")


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What is logged; all is as before afterwards."""
    root = logging.getLogger()
    before = (root.handlers[:], root.level, sys.excepthook, threading.excepthook)
    stream = io.StringIO()
    root.handlers = []  # those of pytest are not ours to close
    yield stream
    root.handlers, root.level = before[:2]
    sys.excepthook, threading.excepthook = before[2:]
    logging.captureWarnings(False)


def objects(lines: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines.getvalue().splitlines()]


def test_a_record_is_an_object_in_a_line(lines: io.StringIO) -> None:
    logs.configure("info", "json", stream=lines)
    logger.info("two\nlines and %d", 1, extra={"event": "greeted", "code": 7})
    logger.debug("not this")
    (found,) = objects(lines)
    assert found.pop("time").endswith("Z")
    assert found == {
        "level": "info",
        "logger": "of_the_test",
        "message": "two\nlines and 1",
        "event": "greeted",
        "code": 7,
    }


def test_the_time_is_in_utc_with_milliseconds() -> None:
    record = logging.makeLogRecord({"created": 1790000000.25})
    found = json.loads(logs.JsonFormatter().format(record))
    assert found["time"] == "2026-09-21T14:13:20.250Z"


def test_a_traceback_is_a_field(lines: io.StringIO) -> None:
    logs.configure("info", "json", stream=lines)
    try:
        raise ValueError("on purpose")
    except ValueError:
        logger.exception("it failed", stack_info=True)
    (found,) = objects(lines)
    assert found["message"] == "it failed"
    assert found["traceback"].startswith("Traceback (most recent call last):\n")
    assert found["traceback"].endswith("ValueError: on purpose")
    assert "test_a_traceback_is_a_field" in found["stack"]


@pytest.mark.parametrize(
    "value", [object(), float("nan"), {(1, 2): 3}, {1}, b"bytes", "\ud800", "a\u2028b", 10**30]
)
def test_any_value_can_be_logged(lines: io.StringIO, value: object) -> None:
    logs.configure("info", "json", stream=lines)
    logger.info("said", extra={"value": value, "time": "mine", "level": 3})
    assert lines.getvalue().isascii()
    (found,) = objects(lines)
    assert "value" in found
    assert (found["level"], found["message"]) == ("info", "said")  # ours come first


class Detached:
    """As objects of databases are when their connection has gone."""

    def __repr__(self) -> str:
        raise RuntimeError("on purpose")


@pytest.mark.parametrize(
    "value",
    [Detached(), [Detached()], {(1, 2): Detached()}, 10**5000],
    ids=["object", "in a list", "in a dict", "number"],
)
def test_what_has_no_repr_can_be_logged(lines: io.StringIO, value: object) -> None:
    logs.configure("info", "json", stream=lines)
    logger.info("said", extra={"value": value, "fd": 7})
    (found,) = objects(lines)
    assert "whose repr raises" in str(found["value"])
    assert (found["message"], found["fd"]) == ("said", 7)


def test_a_circle_can_be_logged(lines: io.StringIO) -> None:
    logs.configure("info", "json", stream=lines)
    circle: list[object] = []
    circle.append(circle)
    logger.info("said", extra={"value": circle})
    (found,) = objects(lines)
    assert found["value"] == "[[...]]"


def test_what_a_handler_logs_has_its_session(lines: io.StringIO) -> None:
    app = App()
    module = app.module("/chat")

    @module.on_handshake
    def decide(request: Request) -> Accept:
        return Accept(user="ann")

    @module.command("say")
    async def say(ctx: Context) -> None:
        await ctx.sleep(1.0)
        logger.info("hello", extra={"fd": "mine"} if ctx.request_id else None)

    logs.configure("info", "json", stream=lines)
    simulation = Simulation(app)
    peer = simulation.open("/chat")
    peer.send('{"type": "say"}')
    simulation.advance(1.0)
    peer.send('{"type": "say", "request_id": 1}')
    simulation.advance(1.0)
    logger.info("outside")
    first, second, third = objects(lines)
    assert (first["fd"], first["path"], first["user"]) == (peer.fd, "/chat", "ann")
    assert second["fd"] == "mine"
    assert "fd" not in third


def test_warnings_and_uncaught_exceptions_are_logged(lines: io.StringIO) -> None:
    logs.configure("warning", "json", stream=lines)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning("old", DeprecationWarning, "file.py", 1)

    def fail() -> None:
        raise ValueError("in a thread")

    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    error = RuntimeError("at the top")
    sys.excepthook(RuntimeError, error, None)
    warned, of_thread, uncaught = objects(lines)
    assert "DeprecationWarning: old" in warned["message"]
    assert of_thread["event"] == uncaught["event"] == "uncaught"
    assert of_thread["traceback"].endswith("ValueError: in a thread")
    assert uncaught["traceback"].endswith("RuntimeError: at the top")


def test_ctrl_c_is_no_failure(lines: io.StringIO, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("warning", "json", stream=lines)
    sys.excepthook(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert lines.getvalue() == ""
    assert "KeyboardInterrupt" in capsys.readouterr().err


def test_text_is_for_people(lines: io.StringIO) -> None:
    logs.configure("warning", stream=lines)
    logger.warning("mind %s", "this", extra={"fd": 1})
    assert lines.getvalue().endswith(" WARNING of_the_test: mind this\n")


def test_a_level_or_format_that_there_is_not_is_named(lines: io.StringIO) -> None:
    with pytest.raises(ConfigurationError, match="log_level"):
        logs.configure("loud")
    with pytest.raises(ConfigurationError, match="log_format"):
        logs.configure("info", "xml")  # type: ignore[arg-type]  # that is what is tested
