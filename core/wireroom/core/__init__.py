"""Wireroom's core: a WebSocket application server as a state machine without I/O.

An `App` is what you build, a `Hub` is what runs it, and a transport (`wireroom.transports`) moves
bytes between a hub and sockets. Nothing in here reads a clock, a socket or randomness.
"""

from __future__ import annotations

from typing import Final

from .app import App
from .backplane import BackplaneSettings
from .clients.session import ClientSession
from .dispatch.context import Context, current_context, current_session
from .dispatch.decisions import Accept, Reject
from .dispatch.effects import Broadcast, Close, Enter, Join, Leave, Send
from .dispatch.function import WebSocket
from .dispatch.handlers import Loop, blocking, command, controller, requires_loop
from .dispatch.module import Module
from .dispatch.parsers import (
    BadMessage,
    CommandDataParser,
    ErrorReply,
    JsonParser,
    MessagePackParser,
    Parsed,
    Parser,
    RawParser,
    Reply,
)
from .dispatch.views import WebSocketView
from .errors import (
    BackplaneAwayError,
    ConfigurationError,
    IdsExhaustedError,
    LocalProtocolError,
    RefusedError,
    RemoteProtocolError,
    RequestFailedError,
    SessionClosedError,
    WireroomError,
)
from .events import (
    Cancel,
    Disconnect,
    HandlerFailed,
    Invoke,
    Output,
    PauseReading,
    RequestAnswered,
    Resume,
    ResumeReading,
    SessionClosed,
    SessionOpened,
    ShutdownWrite,
)
from .hub import Hub
from .limits import Limits
from .serving.calls import FINISHED
from .sessions.completions import Completion
from .sessions.positions import History, Kept, MessagesMissed, Position, Recovery
from .sessions.presence import Member, PresenceChanged
from .sessions.rooms import Room
from .sessions.session import Session
from .sessions.stages import Stages
from .sessions.stats import Stats
from .sessions.users import REPLACED_CODE, User
from .stopwatch import Stopwatch
from .turn import Invocation, Wait
from .wire.client import ClientConnection, Opened, Refused
from .wire.client_address import ClientAddress
from .wire.close_codes import CloseCode
from .wire.deflate import Deflate
from .wire.framing import CloseReceived, PingReceived, PongReceived, Violation
from .wire.masking import COMPILED
from .wire.request import Request, Response
from .wire.request_head import request_head
from .wire.url import URL

compiled: Final = COMPILED
"""Whether the hot modules are extension modules; if not, they run as plain Python."""

__all__ = [
    "FINISHED",
    "REPLACED_CODE",
    "URL",
    "Accept",
    "App",
    "BackplaneAwayError",
    "BackplaneSettings",
    "BadMessage",
    "Broadcast",
    "Cancel",
    "ClientAddress",
    "ClientConnection",
    "ClientSession",
    "Close",
    "CloseCode",
    "CloseReceived",
    "CommandDataParser",
    "ConfigurationError",
    "Completion",
    "Context",
    "Deflate",
    "Disconnect",
    "Enter",
    "ErrorReply",
    "HandlerFailed",
    "History",
    "Hub",
    "IdsExhaustedError",
    "Invocation",
    "Invoke",
    "Join",
    "JsonParser",
    "Kept",
    "Leave",
    "Limits",
    "LocalProtocolError",
    "Loop",
    "Member",
    "MessagePackParser",
    "MessagesMissed",
    "Module",
    "Opened",
    "Output",
    "Parsed",
    "Parser",
    "PauseReading",
    "Position",
    "PingReceived",
    "PongReceived",
    "PresenceChanged",
    "RawParser",
    "Recovery",
    "Refused",
    "RefusedError",
    "Reject",
    "RemoteProtocolError",
    "Reply",
    "Request",
    "RequestAnswered",
    "RequestFailedError",
    "Response",
    "Resume",
    "ResumeReading",
    "Room",
    "Send",
    "Session",
    "SessionClosed",
    "SessionClosedError",
    "SessionOpened",
    "ShutdownWrite",
    "Stages",
    "Stats",
    "Stopwatch",
    "User",
    "Violation",
    "Wait",
    "WebSocket",
    "WebSocketView",
    "WireroomError",
    "blocking",
    "command",
    "compiled",
    "controller",
    "current_context",
    "current_session",
    "request_head",
    "requires_loop",
]
