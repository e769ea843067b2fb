"""An app for the scenarios of the browser client: tests/conformance/browser/scenarios.mjs."""

from __future__ import annotations

import time
from typing import Any, Final

import msgspec

from sources import ROOT
from wireroom.browser import add_client, add_file
from wireroom.core import App, Context, History, Position, Session
from wireroom.transports.tokens import TokenGate, TokenIssuer, TokenVerifier

SECRET: Final = "a secret of the tests, of more than 32 bytes"
NAME: Final = "browser-tests"
HISTORY_MAX: Final = 16  # messages of a room


class Join(msgspec.Struct, tag_field="type", tag="join_room"):
    room: str
    position: Position | None = None


class Say(msgspec.Struct, tag_field="type", tag="say"):
    room: str
    text: str


class Said(msgspec.Struct, tag_field="type", tag="said"):
    room: str
    text: str


class Add(msgspec.Struct, tag_field="type", tag="add"):
    a: int
    b: int


class End(msgspec.Struct, tag_field="type", tag="end"):
    code: int


class CountThenEnd(msgspec.Struct, tag_field="type", tag="count_then_end"):
    id: str


class AskMe(msgspec.Struct, tag_field="type", tag="ask_me"):
    formal: bool


class YourName(msgspec.Struct, tag_field="type", tag="your_name"):
    formal: bool


class GetToken(msgspec.Struct, tag_field="type", tag="token"):
    seconds: float


class Silence(msgspec.Struct, tag_field="type", tag="silence"):
    pass


class Who(msgspec.Struct, tag_field="type", tag="who"):
    pass


def browser_app() -> App:
    """Rooms with a short history, requests of all kinds, and a gate."""
    app = App(origins="*")
    scenarios = ROOT / "tests" / "conformance" / "browser"
    add_client(app)
    add_file(app, "/", scenarios / "page.html")
    add_file(app, "/scenarios.mjs", scenarios / "scenarios.mjs")
    counts: dict[str, int] = {}
    talk = app.module("/talk", history=History(messages_max=HISTORY_MAX))

    @talk.handler
    async def join(ctx: Context, data: Join) -> dict[str, Any]:
        recovery = await ctx.session.recover(data.room, data.position)
        return {"room": data.room, **msgspec.structs.asdict(recovery)}

    @talk.handler
    def say(ctx: Context, data: Say) -> bool:
        ctx.room(data.room).broadcast(Said(data.room, data.text))
        return True

    @talk.handler
    def add(ctx: Context, data: Add) -> int:
        return data.a + data.b

    @talk.handler
    def end(ctx: Context, data: End) -> None:
        ctx.session.close(data.code)

    @talk.handler
    def count_then_end(ctx: Context, data: CountThenEnd) -> int | None:
        """The first time the connection ends before the reply; again, it is known."""
        if data.id in counts:
            return counts[data.id]
        counts[data.id] = 1
        ctx.session.close(1012)
        return None

    @talk.handler
    async def ask_me(ctx: Context, data: AskMe) -> str:
        name: str = await ctx.session.request(YourName(data.formal), reply_type=str)
        return name

    @talk.handler
    async def silence(ctx: Context, data: Silence) -> None:
        await ctx.sleep(60.0)

    @talk.handler
    def token(ctx: Context, data: GetToken) -> dict[str, str]:
        issuer = TokenIssuer(secret=SECRET, issuer=NAME, audience=NAME, lifetime_s=data.seconds)
        return {"token": issuer.issue("ann", now=time.time())}

    gated = app.module("/gated")
    verifier = TokenVerifier(secret=SECRET, issuer=NAME, audience=NAME)
    TokenGate(verifier, first_message_s=10.0, refuse_by="close").install(app, gated)

    @gated.handler
    def who(ctx: Context, data: Who) -> str:
        return _user_of(ctx.session)

    return app


def _user_of(session: Session) -> str:
    return str(session.user)
