"""What a token says, and what is wrong with one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from wireroom.core import WireroomError


@dataclasses.dataclass(frozen=True, slots=True)
class Claims:
    """The claims of a token that was verified (RFC 7519 section 4.1).

    `subject` is who it is about; it is valid before `expires_at`, in Unix seconds. `all` are all
    claims, these included.
    """

    subject: str
    expires_at: float
    all: Mapping[str, Any]


class InvalidTokenError(WireroomError):
    """A token that is not accepted. `is_expired` says that it was valid once."""

    def __init__(self, message: str, *, is_expired: bool = False) -> None:
        super().__init__(message)
        self.is_expired = is_expired
