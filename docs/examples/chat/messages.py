"""Messages: saying, changing and reading them. What is said is stored first, and then heard."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import memberships
from people import Operators
from protocol import (
    ChatMessage,
    DeleteMessage,
    DirectMessage,
    EditMessage,
    GetHistory,
    MarkRead,
    MessageChanged,
    ReadMark,
    SendDirectMessage,
    SendMessage,
    SetTyping,
    Typing,
    fields_of,
)
from records import NotAllowedError, Page, StoredMessage
from refusals import NotJoinedError, refusing
from store import Appended, Store
from wireroom.core import Broadcast, Context, Module

Announce: TypeAlias = Callable[[StoredMessage], object]


@refusing
async def send_message(
    ctx: Context, data: SendMessage, store: Store, operators: Operators
) -> StoredMessage:
    _check_in_room(ctx, data.room)
    appended = store.append(
        data.room, ctx.user, data.text, data.client_id, is_free=ctx.user in operators
    )
    room = ctx.room(data.room)
    return await _heard(
        ctx, appended, lambda stored: room.broadcast(ChatMessage(**fields_of(stored)))
    )


@refusing
async def send_direct_message(ctx: Context, data: SendDirectMessage, store: Store) -> StoredMessage:
    sender = ctx.user
    find = partial(memberships.find_direct, sender=sender, to=data.to)
    recipient, room = await store.read(find)
    if room is None:
        make = partial(memberships.open_direct, one=sender, other=recipient, now=store.now)
        room = await store.write(make)
    appended = store.append(room.name, sender, data.text, data.client_id)
    users = [ctx.hub.user(each) for each in {sender.id, recipient.id}]

    def announce(stored: StoredMessage) -> None:
        for user in users:
            user.send(DirectMessage(**fields_of(stored), to=recipient.name))

    return await _heard(ctx, appended, announce)


async def _heard(ctx: Context, appended: Appended, announce: Announce) -> StoredMessage:
    """What was stored, after it was announced, which it is once it is known to be stored.

    One that was stored before may not have been heard by all: the node that stored it may have
    ended before it said so. It is announced as what it is now, which is new only to those.
    """
    ctx.hub.completion(appended.committed).then(announce)
    stored = await appended
    if not appended.committed.done():
        _announcer_of_changes(ctx, stored.room)(stored)
    return stored


@refusing
async def edit_message(ctx: Context, data: EditMessage, store: Store) -> StoredMessage:
    _check_may_see(ctx, data.room)
    changed = store.edit(data.room, data.offset, ctx.user, data.text)
    ctx.hub.completion(changed).then(_announcer_of_changes(ctx, data.room))
    return await changed


@refusing
async def delete_message(
    ctx: Context, data: DeleteMessage, store: Store, operators: Operators
) -> StoredMessage:
    _check_may_see(ctx, data.room)
    room = await store.find_room(data.room)
    moderates = room is not None and operators.may_moderate(ctx.user, room)
    changed = store.delete(data.room, data.offset, ctx.user, any_sender=moderates)
    ctx.hub.completion(changed).then(_announcer_of_changes(ctx, data.room))
    return await changed


def _announcer_of_changes(ctx: Context, room_name: str) -> Announce:
    """What tells those who may see a room's messages how one is now."""
    ids = memberships.direct_ids(room_name)
    if ids is None:
        room = ctx.room(room_name)
        return lambda stored: room.broadcast(MessageChanged(**fields_of(stored)))
    users = [ctx.hub.user(each) for each in set(ids)]

    def tell(stored: StoredMessage) -> None:
        for user in users:
            user.send(MessageChanged(**fields_of(stored)))

    return tell


@refusing
async def get_history(ctx: Context, data: GetHistory, store: Store) -> Page:
    _check_may_see(ctx, data.room)
    return await store.history(data.room, before=data.before, after=data.after, limit=data.limit)


@refusing
async def mark_read(ctx: Context, data: MarkRead, store: Store) -> ReadMark:
    mark = partial(
        memberships.mark_read, name=data.room, account_id=ctx.user.id, offset=data.offset
    )
    return ReadMark(data.room, await store.write(mark))


@refusing
def set_typing(ctx: Context, data: SetTyping) -> Broadcast:
    _check_in_room(ctx, data.room)
    typing = Typing(data.room, ctx.user.name, data.is_typing)
    return Broadcast(data.room, typing, in_history=False)


def _check_in_room(ctx: Context, room: str) -> None:
    if ctx.session not in ctx.room(room):
        raise NotJoinedError("join the room first")


def _check_may_see(ctx: Context, room: str) -> None:
    """Raises `StoreError` unless who asks is in the room, or it is that of them and another."""
    ids = memberships.direct_ids(room)
    if ids is None:
        _check_in_room(ctx, room)
    elif ctx.user.id not in ids:
        raise NotAllowedError("these are messages between others")


def add_messages(module: Module) -> None:
    """Their handlers."""
    for handler in (
        send_message,
        send_direct_message,
        edit_message,
        delete_message,
        get_history,
        mark_read,
        set_typing,
    ):
        module.handler(handler)
