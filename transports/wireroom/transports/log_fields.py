"""What a record of a log says beside its text, for those who read it by program.

logger.info("…", extra={"event": "session_kicked", **session_fields(session)})
"""

from __future__ import annotations

from typing import Any

from wireroom.core import Session


def session_fields(session: Session) -> dict[str, Any]:
    """Which session it is: `fd`, `path`, and `user` if it is known. Once it has a request."""
    fields: dict[str, Any] = {"fd": session.fd, "path": session.path}
    if session.user_id is not None:
        fields["user"] = session.user_id
    return fields
