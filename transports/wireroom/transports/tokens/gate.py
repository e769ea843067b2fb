"""A gate that sessions pass by a token, and have to leave when it ends.

gate = TokenGate(verifier, first_message_s=10.0)
gate.install(app, app.module("/chat", subprotocols=["chat"]), admitted=welcome)

The token comes with the handshake (see `sources`), or in the first message, within a deadline:

    {"type": "authenticate", "token": "…"}

The same message with a new token, before the old one ends, lets the session go on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Literal, TypeAlias, final

import msgspec

from wireroom.core import (
    Accept,
    App,
    ConfigurationError,
    Context,
    ErrorReply,
    Module,
    Reject,
    Request,
    Session,
)
from wireroom.core.deadlines import Deadlines
from wireroom.core.sessions.session import SessionHub

from .claims import Claims, InvalidTokenError
from .sources import BearerHeader, Cookie, SubprotocolEntry, TokenSource
from .verifier import TokenVerifier

UNAUTHENTICATED_CODE: Final = 4401  # private use (RFC 6455 section 7.4.2): log in
TOKEN_EXPIRED_CODE: Final = 4419  # private use: come again with a new token

INTERVAL_S: Final = 1.0  # sessions are looked at so often

Admitted: TypeAlias = Callable[[Session], object]
RefuseBy: TypeAlias = Literal["status", "close"]

_REASONS: Final = {
    UNAUTHENTICATED_CODE: "a valid token is required",
    TOKEN_EXPIRED_CODE: "the token has expired",
}


class Authenticate(msgspec.Struct, tag_field="type", tag="authenticate"):
    """A token: in the first message, or a new one for the session to go on with."""

    token: str


class Authenticated(msgspec.Struct, tag_field="type", tag="authenticated"):
    """It is accepted, until `expires_at` in Unix seconds."""

    subject: str
    expires_at: float


@final
class _Ends:
    """When sessions of one hub have to have a (new) token."""

    __slots__ = ("deadlines",)

    def __init__(self) -> None:
        self.deadlines: Deadlines[Session] = Deadlines()

    def keep(self, sessions: Iterable[Session]) -> None:
        """Forget all others."""
        before, self.deadlines = self.deadlines, Deadlines()
        for session in sessions:
            when = before.get(session)
            if when is not None:
                self.deadlines.set(session, when)


@final
class TokenGate:
    """Lets those in who have a token, and shows them out when it has ended.

    `sources` are looked at in this order, and the first that has a token decides. With
    `first_message_s`, who has none in the handshake may still authenticate within so many seconds;
    without it, that is refused with 401. `refuse_by` says how a handshake is refused: with a
    "status" (401), or with a "close" (4401, or 4419 for a token that has expired) of a session that
    is accepted first, because a browser tells its page no status. `user_of` makes the session's
    user of the claims, their subject if it is not given; `claims_of` has the claims themselves.
    `clock` gives Unix seconds; how long a session lasts is measured by the hub's clock.
    """

    def __init__(
        self,
        verifier: TokenVerifier,
        *,
        sources: Sequence[TokenSource] = (BearerHeader(), SubprotocolEntry()),
        first_message_s: float | None = None,
        refuse_by: RefuseBy = "status",
        user_of: Callable[[Claims], Any] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if refuse_by not in ("status", "close"):
            raise ConfigurationError("refuse_by", f'must be "status" or "close", not {refuse_by!r}')
        if first_message_s is not None and not first_message_s > 0:
            raise ConfigurationError("first_message_s", f"must be positive: {first_message_s!r}")
        self._verifier = verifier
        self._sources = tuple(sources)
        self._first_message_s = first_message_s
        self._refuse_by = refuse_by
        self._user_of = user_of or (lambda claims: claims.subject)
        self._clock = clock
        self._admitted: Admitted | None = None

    def install(self, app: App, module: Module, *, admitted: Admitted | None = None) -> None:
        """Put the gate before a module: its handshake, opening, commands, and ends.

        `admitted(session)`, `def`, is called once a session's user is known, in place of `on_open`.
        Raises `ConfigurationError` if the module has handlers of these, or if web pages of any
        origin may connect with a cookie.
        """
        origins = app.origins if module.origins is None else module.origins
        if origins == "*" and any(isinstance(each, Cookie) for each in self._sources):
            raise ConfigurationError(
                f"module {module.path!r}: origins",
                "a cookie is sent by any page that a browser shows: say which origins may connect",
            )
        self._admitted = admitted
        module.on_handshake(self.decide)
        module.on_open(self.opened)
        module.handler(self.authenticate)
        module.middleware(self.only_authenticated)
        app.provide(_Ends, _Ends)
        app.every(INTERVAL_S)(self.end_expired)

    # -- what it is made of, for modules that do more ----------------------------------------

    def decide(self, request: Request) -> Accept | Reject:
        """`on_handshake`: by the token in the request."""
        token = next(filter(None, (each.find(request) for each in self._sources)), None)
        if token is None:
            if self._first_message_s is not None:
                return Accept()
            return self._refuse(UNAUTHENTICATED_CODE, "Bearer")
        try:
            claims = self._verifier.verify(token, now=self._clock())
        except InvalidTokenError as error:
            code = TOKEN_EXPIRED_CODE if error.is_expired else UNAUTHENTICATED_CODE
            return self._refuse(code, 'Bearer error="invalid_token"')
        return Accept(user=self._user_of(claims), state={"token_claims": claims})

    def _refuse(self, code: int, challenge: str) -> Accept | Reject:
        """RFC 6750 section 3."""
        if self._refuse_by == "close":
            return Accept(state={"token_refused": code})
        return Reject(401, _REASONS[code] + "\n", {"WWW-Authenticate": challenge})

    def opened(self, session: Session) -> None:
        """`on_open`: the session has until its token ends, or has to send one soon."""
        refused = getattr(session.state, "token_refused", None)
        if refused is not None:
            session.close(refused, _REASONS[refused])
            return
        claims = claims_of(session)
        if claims is None:
            assert self._first_message_s is not None
            self._set_end(session, self._first_message_s)
            return
        self._set_end(session, self._lasts_s(claims))
        self._admit(session)

    def authenticate(self, ctx: Context, data: Authenticate) -> Authenticated | ErrorReply | None:
        """The command: a session's first token, or a new one of the same subject.

        A first one that is not accepted closes with 4401 (4419 if it has expired); a later one
        gets an error reply, and the old one goes on to count.
        """
        session = ctx.session
        before = claims_of(session)
        try:
            claims = self._verifier.verify(data.token, now=self._clock())
        except InvalidTokenError as error:
            if before is not None:
                return ErrorReply("invalid_token", "the token is not accepted", "token")
            code = TOKEN_EXPIRED_CODE if error.is_expired else UNAUTHENTICATED_CODE
            session.close(code, _REASONS[code])
            return None
        if before is not None and before.subject != claims.subject:
            return ErrorReply("wrong_subject", "the token is another user's", "token")
        session.state.token_claims = claims
        self._set_end(session, self._lasts_s(claims))
        if before is None:
            session.user = self._user_of(claims)
        ctx.reply(Authenticated(claims.subject, claims.expires_at))
        if before is None:
            self._admit(session)
        return None

    def only_authenticated(self, ctx: Context, call_next: Callable[[], Any]) -> Any:
        """Middleware: nothing but `authenticate` before there is a token."""
        if claims_of(ctx.session) is None and ctx.command != "authenticate":
            return ErrorReply("unauthenticated", "send an authenticate message first")
        return call_next()

    def end_expired(self, hub: SessionHub) -> None:
        """`every`: close the sessions whose time is up."""
        ends = hub.service(_Ends)
        for session in ends.deadlines.due(hub.now):
            code = UNAUTHENTICATED_CODE if claims_of(session) is None else TOKEN_EXPIRED_CODE
            session.close(code, _REASONS[code])
        if len(ends.deadlines) > 2 * hub.stats().sessions + 64:  # most have gone by themselves
            ends.keep(hub.sessions())

    def _lasts_s(self, claims: Claims) -> float:
        return claims.expires_at + self._verifier.leeway_s - self._clock()

    def _set_end(self, session: Session, seconds: float) -> None:
        hub = session.hub
        session.turn.entered(lambda: hub.service(_Ends).deadlines.set(session, hub.now + seconds))

    def _admit(self, session: Session) -> None:
        if self._admitted is not None:
            self._admitted(session)


def claims_of(session: Session) -> Claims | None:
    """What the token of a session says, or None before it has shown one."""
    claims: Claims | None = getattr(session.state, "token_claims", None)
    return claims
