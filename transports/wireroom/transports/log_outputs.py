"""What a transport logs of what the hub says: for people, and with fields for programs."""

from __future__ import annotations

import logging

from wireroom.core import HandlerFailed, RequestAnswered, Session, SessionClosed, SessionOpened

from .log_fields import session_fields


def log_failure(logger: logging.Logger, failed: HandlerFailed, session: Session | None) -> None:
    """With its traceback, as an error; `session` is the handler's, if it has one still."""
    fields = {"fd": failed.fd} if session is None else session_fields(session)
    logger.error(
        "handler %s failed (fd %d)",
        failed.handler,
        failed.fd,
        exc_info=failed.error,
        extra={"event": "handler_failed", "handler": failed.handler, **fields},
    )


def log_fact(logger: logging.Logger, fact: SessionOpened | SessionClosed | RequestAnswered) -> None:
    """For debugging: ask `isEnabledFor` first, since there are many."""
    match fact:
        case SessionOpened():
            fields = {"event": "session_opened", **session_fields(fact.session)}
            logger.debug("fd %d opened %s", fact.fd, fact.path, extra=fields)
        case SessionClosed():
            fields = {
                "event": "session_closed",
                "code": fact.code,
                "reason": fact.reason,
                **session_fields(fact.session),
            }
            logger.debug("fd %d closed: %d %s", fact.fd, fact.code, fact.reason, extra=fields)
        case RequestAnswered():
            fields = {
                "event": "request_answered",
                "fd": fact.fd,
                "method": fact.method,
                "target": fact.target,
                "status": fact.status,
            }
            logger.debug(
                "fd %d %s %s: %d", fact.fd, fact.method, fact.target, fact.status, extra=fields
            )
