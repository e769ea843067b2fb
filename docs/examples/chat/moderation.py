"""Moderation: what the maker of a room, or an operator, may do to those in it.

It holds from when it is stored: who is banned or muted cannot write, on no node. Who is kicked or
banned is put out of the room by the node that was asked at once, and by the others when they next
look at the record, some seconds later.
"""

from __future__ import annotations

from functools import partial
from typing import Final, final

import moderation_queries as queries
from memberships import direct_ids
from people import Operators
from protocol import Ban, Kick, Kicked, Mute, SlowMode, SystemNotification, Unban, Unmute
from records import Moderation, NotAllowedError
from refusals import refusing
from store import Store
from store_results import StoreError
from wireroom.core import App, Context, Module
from wireroom.core.sessions.session import SessionHub

INTERVAL_S: Final = 2.0  # between two looks at the record
_AT_A_TIME: Final = 1000


@final
class ModerationRecord:
    """How far a node knows what was done. Changed under the hub's inputs only."""

    def __init__(self) -> None:
        self.last_id: int | None = None
        self.own: set[int] = set()  # what was done here, and is carried out already


async def kick(ctx: Context, data: Kick, store: Store, operators: Operators) -> Moderation:
    return await _moderate(ctx, store, operators, queries.KICK, data.room, data.name)


async def ban(ctx: Context, data: Ban, store: Store, operators: Operators) -> Moderation:
    return await _moderate(ctx, store, operators, queries.BAN, data.room, data.name)


async def unban(ctx: Context, data: Unban, store: Store, operators: Operators) -> Moderation:
    return await _moderate(ctx, store, operators, queries.UNBAN, data.room, data.name)


async def mute(ctx: Context, data: Mute, store: Store, operators: Operators) -> Moderation:
    return await _moderate(ctx, store, operators, queries.MUTE, data.room, data.name, data.seconds)


async def unmute(ctx: Context, data: Unmute, store: Store, operators: Operators) -> Moderation:
    return await _moderate(ctx, store, operators, queries.UNMUTE, data.room, data.name)


async def slow_mode(ctx: Context, data: SlowMode, store: Store, operators: Operators) -> Moderation:
    return await _moderate(ctx, store, operators, queries.SLOW_MODE, data.room, None, data.seconds)


async def _moderate(
    ctx: Context,
    store: Store,
    operators: Operators,
    action: str,
    room: str,
    to: str | None,
    seconds: float | None = None,
) -> Moderation:
    if direct_ids(room) is not None:  # whether there is one or not is nobody else's business
        raise NotAllowedError("what two say to each other has no moderator")
    stored = store.write(
        partial(
            queries.moderate,
            room_name=room,
            action=action,
            moderator=ctx.user,
            is_operator=ctx.user in operators,
            to=to,
            seconds=seconds,
            now=store.now,
        )
    )
    hub, members = ctx.hub, ctx.room(room)

    def announce(done: Moderation) -> None:
        record = hub.service(ModerationRecord)
        if record.last_id is None or done.id > record.last_id:  # or else it is already done
            record.own.add(done.id)
            carry_out(hub, done)
        members.broadcast(SystemNotification(room, _said(done)))

    hub.completion(stored).then(announce)
    return await stored


def carry_out(hub: SessionHub, done: Moderation) -> None:
    """Put sessions out of the room, where that was done to their user."""
    if done.user is None or done.action not in (queries.KICK, queries.BAN):
        return
    for session in hub.user(done.user.id).sessions:
        if session.leave(done.room):
            is_banned = done.action == queries.BAN
            session.send(Kicked(done.room, _said(done), is_banned))


def _said(done: Moderation) -> str:
    by, seconds = done.moderator.name, done.seconds or 0.0
    if done.user is None:
        if not seconds:
            return f"{by} ended slow mode"
        return f"{by} set slow mode: {seconds:g} seconds between two messages of a person"
    verbs = {
        queries.KICK: "kicked {}",
        queries.BAN: "banned {}",
        queries.UNBAN: "lifted the ban of {}",
        queries.MUTE: f"muted {{}} for {seconds:g} seconds",
        queries.UNMUTE: "lets {} write again",
    }
    return f"{by} {verbs[done.action].format(done.user.name)}"


async def begin_record(hub: SessionHub, store: Store) -> None:
    """To be called before a session joins a room: what is done from now on concerns it."""
    record = hub.service(ModerationRecord)
    if record.last_id is None:
        newest = await hub.completion(store.read(queries.newest))
        if record.last_id is None:
            record.last_id = newest


async def look_at_record(hub: SessionHub) -> None:
    """`every`: carry out what was done on other nodes."""
    record, store = hub.service(ModerationRecord), hub.service(Store)
    if record.last_id is None:
        return
    find = partial(queries.after, moderation_id=record.last_id, limit=_AT_A_TIME)

    def found(moderations: list[Moderation]) -> None:
        for done in moderations:
            record.last_id = done.id
            if done.id in record.own:
                record.own.discard(done.id)
            else:
                carry_out(hub, done)

    asked = hub.completion(store.read(find))
    asked.then(found)
    try:
        await asked
    except StoreError:
        return  # the next look finds the same


def add_moderation(app: App, module: Module) -> None:
    """Its handlers, and looks at the record."""
    app.provide(ModerationRecord, ModerationRecord)
    for handler in (kick, ban, unban, mute, unmute, slow_mode):
        module.handler(refusing(handler))
    app.every(INTERVAL_S)(look_at_record)
