"""The whole suite, in one class."""

from __future__ import annotations

from .addresses import Addresses
from .applications import Applications
from .blocking_handlers import BlockingHandlers
from .deadlines import Deadlines
from .endings import Endings
from .handlers import Handlers
from .handshakes import Handshakes
from .messages import Messages
from .pressure import Pressure


class Suite(
    Handshakes,
    Messages,
    Applications,
    Handlers,
    BlockingHandlers,
    Pressure,
    Deadlines,
    Endings,
    Addresses,
):
    """Every behaviour. Derive a class `Test...` from it and override the fixture `harness`."""
