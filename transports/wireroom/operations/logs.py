"""Logs as JSON, one object a line, by the standard library's logging.

    logs.configure("info", "json")
    logger.warning("too many", extra={"event": "rate_limited", "room": "lobby"})

    {"time": "2026-11-21T15:20:00.123Z", "level": "warning", "logger": "chat",
     "message": "too many", "event": "rate_limited", "room": "lobby",
     "fd": 7, "path": "/chat", "user": "ann"}

What is logged in a session's handler has that session's `fd`, `path` and `user`. `event` names what
the server itself has to say (`session_opened`, `session_closed` with `code`, `handler_failed` …).
A traceback is the text in `traceback`. All else that was given as `extra` is a field, too.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
from datetime import UTC, datetime
from types import TracebackType
from typing import IO, Any, Final, Literal, TypeAlias, final

from wireroom.core import ConfigurationError, current_session
from wireroom.transports.log_fields import session_fields

LogFormat: TypeAlias = Literal["text", "json"]

TEXT_FORMAT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"
LEVELS: Final = ("critical", "error", "warning", "info", "debug")

# What every record has by itself, and so is no `extra`.
_OWN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


@final
class JsonFormatter(logging.Formatter):
    """One record as one line of JSON, in ASCII; what is no JSON is given by its `repr`."""

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = {
            "time": _timestamp(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name, value in vars(record).items():
            if name not in _OWN and name not in fields:
                fields[name] = value
        for name, value in _session_fields().items():
            fields.setdefault(name, value)
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        if record.stack_info:
            fields["stack"] = self.formatStack(record.stack_info)
        try:
            return json.dumps(fields, default=_repr, allow_nan=False)
        except (ValueError, TypeError, RecursionError):  # NaN, keys that are no text, a circle …
            return json.dumps({name: _plain(value) for name, value in fields.items()})


def configure(
    level: str = "warning", log_format: LogFormat = "text", *, stream: IO[str] | None = None
) -> None:
    """Log to `stream`, stderr if it is not given, in place of what was set up before.

    As JSON, warnings and exceptions that nothing has caught are logged as well.
    Raises `ConfigurationError` for a level or a format that there is not.
    """
    if level not in LEVELS:
        raise ConfigurationError("log_level", f"must be one of {', '.join(LEVELS)}, not {level!r}")
    if log_format not in ("text", "json"):
        raise ConfigurationError("log_format", f'must be "text" or "json", not {log_format!r}')
    handler = logging.StreamHandler(stream)
    if log_format == "json":
        handler.setFormatter(JsonFormatter())
        logging.captureWarnings(True)
        sys.excepthook = _log_uncaught
        threading.excepthook = _log_uncaught_in_thread
    else:
        handler.setFormatter(logging.Formatter(TEXT_FORMAT))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def _session_fields() -> dict[str, Any]:
    """Those of the session whose handler this is, if any."""
    try:
        return session_fields(current_session())
    except LookupError:
        return {}


def _timestamp(created: float) -> str:
    """RFC 3339, in UTC, with milliseconds."""
    return datetime.fromtimestamp(created, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def _plain(value: object) -> str | int:
    if isinstance(value, str) or (isinstance(value, int) and abs(value) < 2**63):
        return value
    return _repr(value)


def _repr(value: object) -> str:
    """Its `repr`; also of what has none, for the rest of the record is worth a line."""
    try:
        return repr(value)
    except Exception as error:
        return f"<{type(value).__name__} whose repr raises {type(error).__name__}>"


def _log_uncaught(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, traceback)
        return
    logging.getLogger("wireroom").critical(
        "uncaught %s", kind.__name__, exc_info=(kind, error, traceback), extra={"event": "uncaught"}
    )


def _log_uncaught_in_thread(caught: threading.ExceptHookArgs) -> None:
    if caught.exc_value is not None:
        _log_uncaught(caught.exc_type, caught.exc_value, caught.exc_traceback)
