"""The operator's console: a page at `/console`, and its feed, behind a token.

What the feed says is in `feed`. The page itself is open, for it has to ask for the token; nothing
of the server is in it. Without a token there is no console at all.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import socket
import time
from collections import Counter, deque
from collections.abc import Callable
from ipaddress import IPv6Address, IPv6Network, ip_address
from pathlib import Path
from typing import Any, Final, final

from wireroom.browser import SCRIPT
from wireroom.core import (
    Accept,
    App,
    ConfigurationError,
    Context,
    ErrorReply,
    LocalProtocolError,
    Reject,
    Request,
    Response,
    Session,
    Stats,
    Stopwatch,
    current_session,
)
from wireroom.core.sessions.session import SessionHub
from wireroom.core.wire.request import Address
from wireroom.transports.log_fields import session_fields

from .feed import (
    CLOSES_MAX,
    HANDLERS_MAX,
    TEXT_MAX,
    Authenticate,
    CheckState,
    Closes,
    HandlerLatency,
    Kick,
    Kicked,
    LatencyOfAll,
    Past,
    Rates,
    Snapshot,
    Watch,
    Welcome,
)
from .health import Health
from .latency import BOUNDS_S, Latency
from .scan import Scan, address_of

logger: Final = logging.getLogger("wireroom.console")

INTERVAL_S: Final = 1.0
AUTHENTICATE_S: Final = 10.0  # for the token to come
WRONG_TOKEN_S: Final = 1.0  # before a wrong one is answered
TOKEN_LENGTH_MIN: Final = 16
CONSOLES_MAX: Final = 16  # at a time, a hub
STRANGERS_MAX: Final = 64  # those that have not shown the token
HISTORY_MAX: Final = 300  # intervals

UNAUTHENTICATED_CODE: Final = 4401  # private use (RFC 6455 section 7.4.2)
TOO_MANY_CODE: Final = 4429

PAGE_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
        " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-cache",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

_FILES: Final = (
    ("/console", "console.html", "text/html; charset=utf-8"),
    ("/console/console.css", "console.css", "text/css; charset=utf-8"),
    ("/console/console.js", "console.js", "text/javascript; charset=utf-8"),
    ("/console/console_charts.js", "console_charts.js", "text/javascript; charset=utf-8"),
    ("/console/wireroom.js", SCRIPT, "text/javascript; charset=utf-8"),
)

_FAILURES: Final = (
    *("handler_failures", "bad_messages", "late_replies", "violations", "requests_refused"),
    *("connections_refused", "proxies_refused", "stalled", "overflowed", "ping_timeouts"),
    *("close_timeouts", "head_timeouts"),
)
_GAUGES: Final = ("connections", "sessions", "rooms", "users", "invocations", "contexts")


def install_console(
    app: App,
    token: str,
    health: Health,
    *,
    version: str,
    clock: Callable[[], float] = time.time,
) -> None:
    """Serve the page and the feed to who knows `token`. `clock` gives Unix seconds.

    Raises `ConfigurationError` for a token that is too short to be secret.
    """
    if len(token) < TOKEN_LENGTH_MIN:
        raise ConfigurationError(
            "console_token",
            f"must have at least {TOKEN_LENGTH_MIN} characters, for who has it can close sessions:"
            ' python -c "import secrets; print(secrets.token_urlsafe())"',
        )
    gate = _Token(token)
    for path, name, content_type in _FILES:
        body = (Path(__file__).parent / name).read_bytes()
        app.http(path)(_file(Response(200, body, PAGE_HEADERS, content_type=content_type)))
    app.provide(Console, lambda: Console(health, version, clock))
    feed = app.module("/console/feed")
    feed.on_handshake(gate.decide)
    feed.on_open(_opened)
    feed.on_close(_closed)
    feed.middleware(_only_operators)
    feed.handler(gate.authenticate)
    feed.handler(_watch)
    feed.handler(_kick)
    app.every(INTERVAL_S)(_tick)


def _file(response: Response) -> Callable[[Request], Response]:
    def serve(request: Request) -> Response:
        return response

    return serve


@final
class _Token:
    """Who knows it is an operator. It is compared in constant time, whatever its length."""

    def __init__(self, token: str) -> None:
        self._digest = hashlib.sha256(token.encode()).digest()

    def is_right(self, token: str) -> bool:
        """Whether it is this."""
        digest = hashlib.sha256(token.encode("utf-8", "replace")).digest()
        return hmac.compare_digest(digest, self._digest)

    async def decide(self, request: Request) -> Accept | Reject:
        """`on_handshake`: by `Authorization: Bearer` (RFC 6750 section 2.1), if it is there."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return Accept()
        if self.is_right(token.strip()):
            return Accept(state={"is_operator": True})
        await current_session().sleep(WRONG_TOKEN_S)
        challenge = {"WWW-Authenticate": 'Bearer error="invalid_token"'}
        return Reject(401, "the token is not the console's\n", challenge)

    async def authenticate(self, ctx: Context, data: Authenticate, console: Console) -> None:
        """The command: the token, in the first message."""
        session = ctx.session
        if self.is_right(data.token):
            console.admit(session)
            if session.is_connected:
                ctx.reply(console.welcome())
            return
        console.suspect(session)
        fields = {"event": "wrong_token", **session_fields(session)}
        logger.warning("a wrong token, from %s", address_of(session), extra=fields)
        await ctx.sleep(WRONG_TOKEN_S)
        session.close(UNAUTHENTICATED_CODE, "the token is not the console's")


@final
class Console:
    """One hub's consoles: who watches, and what they are told."""

    def __init__(self, health: Health, version: str, clock: Callable[[], float]) -> None:
        self._health = health
        self._version = version
        self._clock = clock
        self._node = f"{socket.gethostname()}:{os.getpid()}"
        self._watches: dict[Session, Watch] = {}
        # Those that have not shown a token, in the order in which they came, and until when they
        # may stay; and those that have shown a wrong one, and wait for the answer.
        self._silent: dict[Session, float] = {}
        self._suspects: set[Session] = set()
        self._scan = Scan()
        self._history: deque[Past] = deque(maxlen=HISTORY_MAX)
        self._started: float | None = None  # by the hub's clock
        self._before = Stats()
        self._looked_at = 0.0
        self._rates = Rates()

    # -- who watches --------------------------------------------------------------------------

    def let_in(self, session: Session) -> None:
        """It has not shown the token yet. Of too many, one that has said nothing makes room: the
        oldest from where most are from. So those who only keep a place do not keep it."""
        self._silent[session] = session.hub.now + AUTHENTICATE_S
        if len(self._silent) + len(self._suspects) > STRANGERS_MAX:
            sites = {each: site_of(each.address) for each in self._silent}
            ((most, _),) = Counter(sites.values()).most_common(1)
            leaving = next(each for each, site in sites.items() if site == most)
            del self._silent[leaving]
            leaving.close(TOO_MANY_CODE, "too many consoles are open")

    def suspect(self, session: Session) -> None:
        """It has shown a wrong token: it stays until it is told, and counts until then."""
        self._silent.pop(session, None)
        self._suspects.add(session)

    def admit(self, session: Session) -> None:
        """It has shown the token."""
        self._silent.pop(session, None)
        if session not in self._watches and len(self._watches) >= CONSOLES_MAX:
            session.close(TOO_MANY_CODE, "too many consoles are open")
            return
        self._watches.setdefault(session, Watch())

    def watch(self, session: Session, watch: Watch) -> None:
        """What it wants to see."""
        self._watches[session] = watch

    def is_watching(self, session: Session) -> bool:
        """Whether it has shown the token."""
        return session in self._watches

    def leave(self, session: Session) -> None:
        """It has gone."""
        self._silent.pop(session, None)
        self._suspects.discard(session)
        self._watches.pop(session, None)
        if not self._watches:
            self._scan.forget()

    def welcome(self) -> Welcome:
        """What it is told first."""
        return Welcome(INTERVAL_S, self._version, list(self._history))

    # -- what they are told -------------------------------------------------------------------

    def tick(self, hub: SessionHub) -> None:
        """An interval is over."""
        now, stats = hub.now, hub.stats()
        if self._started is None:
            self._started = now
        else:
            self._rates = _rates(self._before, stats, now - self._looked_at)
        self._before, self._looked_at = stats, now
        self._history.append(Past(self._clock(), stats.sessions, self._rates))
        for session in [each for each, until in self._silent.items() if until <= now]:
            del self._silent[session]
            session.close(UNAUTHENTICATED_CODE, "the token did not come")
        readers = {
            session: watch
            for session, watch in self._watches.items()
            if session.outbox.waiting <= session.outbox.mark
        }
        if not readers:
            return
        self._scan.look(hub)
        for session, watch in readers.items():
            if session.is_connected:
                session.send(self.snapshot(hub, stats, watch))

    def snapshot(self, hub: SessionHub, stats: Stats, watch: Watch) -> Snapshot:
        """How it is now."""
        return Snapshot(
            node=self._node,
            time=self._clock(),
            uptime_s=hub.now - (self._started or 0.0),
            is_ready=not self._health.unready_reasons(),
            gauges={name: getattr(stats, name) for name in _GAUGES},
            rates=self._rates,
            queues=self._scan.queues,
            drops={
                "messages_received": stats.dropped_messages_received,
                "messages_sent": stats.dropped_messages_sent,
                "pongs": stats.dropped_pongs,
                "bytes_received": stats.dropped_bytes_received,
            },
            failures={name: getattr(stats, name) for name in _FAILURES},
            closes=_closes(stats),
            latency=_latency(hub),
            checks=[
                CheckState(name, None if reason is None else reason[:TEXT_MAX], is_required)
                for name, reason, is_required in self._health.results()
            ],
            sessions=self._scan.sessions(watch, hub.now),
            rooms=self._scan.rooms,
        )


def site_of(address: Address) -> str | None:
    """What a peer is counted by: its address, or the /64 network of IPv6, of which one site has
    all; None for a Unix socket."""
    host = address[0] if isinstance(address, tuple) else ""
    try:
        ip = ip_address(host.partition("%")[0])
    except ValueError:
        return host or None
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is None:
        return str(IPv6Network((ip, 64), strict=False))
    return str(getattr(ip, "ipv4_mapped", None) or ip)


def _rates(before: Stats, now: Stats, elapsed_s: float) -> Rates:
    if elapsed_s <= 0:
        return Rates()

    def rate(name: str) -> float:
        return float(getattr(now, name) - getattr(before, name)) / elapsed_s

    return Rates(
        messages_received=rate("messages_received"),
        messages_sent=rate("messages_sent"),
        bytes_received=rate("bytes_received"),
        bytes_sent=rate("bytes_sent"),
        requests=rate("requests"),
        sessions_opened=rate("sessions_total"),
        sessions_closed=(sum(now.closes.values()) - sum(before.closes.values())) / elapsed_s,
    )


def _closes(stats: Stats) -> list[Closes]:
    most = sorted(stats.closes.items(), key=lambda each: -each[1])[:CLOSES_MAX]
    return [Closes(code, by, count) for (code, by), count in most]


def _latency(hub: SessionHub) -> LatencyOfAll:
    watch = hub.service(Stopwatch)
    latency = watch if isinstance(watch, Latency) else Latency()
    most = sorted(latency.histograms.items(), key=lambda each: -each[1].sum_s)[:HANDLERS_MAX]
    total = latency.total()
    return LatencyOfAll(
        bounds_s=BOUNDS_S,
        counts=total.counts,
        sum_s=total.sum_s,
        handlers=[
            HandlerLatency(name[-TEXT_MAX:], each.count, each.sum_s, each.max_s)
            for name, each in most
        ],
    )


# -- handlers ---------------------------------------------------------------------------------


def _opened(session: Session) -> None:
    console = session.hub.service(Console)
    if getattr(session.state, "is_operator", False):
        console.admit(session)
    else:
        console.let_in(session)


def _closed(session: Session) -> None:
    session.hub.service(Console).leave(session)


def _only_operators(ctx: Context, call_next: Callable[[], Any]) -> Any:
    """Middleware: nothing but `authenticate` before there is a token."""
    console = ctx.hub.service(Console)
    if ctx.command != "authenticate" and not console.is_watching(ctx.session):
        return ErrorReply("unauthenticated", "send an authenticate message first")
    return call_next()


def _watch(ctx: Context, data: Watch, console: Console) -> None:
    console.watch(ctx.session, data)


def _kick(ctx: Context, data: Kick) -> Kicked | ErrorReply:
    session = ctx.hub.session(data.fd)
    if session is None or session.generation != data.generation:
        return ErrorReply("no_session", "it has gone already")
    try:
        session.close(data.code, data.reason)
    except LocalProtocolError as error:
        return ErrorReply("invalid_data", str(error))
    logger.warning(
        "an operator at %s has closed fd %d: %d %s",
        address_of(ctx.session),
        data.fd,
        data.code,
        data.reason,
        extra={"event": "session_kicked", "code": data.code, **session_fields(session)},
    )
    return Kicked(data.fd, data.generation)


def _tick(hub: SessionHub) -> None:
    hub.service(Console).tick(hub)
