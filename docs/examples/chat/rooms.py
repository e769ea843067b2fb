"""Rooms: listing, making, joining and leaving them."""

from __future__ import annotations

from functools import partial

import memberships
from moderation import begin_record
from people import Operators
from presence import Presences
from protocol import CreateRoom, JoinedRoom, JoinRoom, LeaveRoom, ListRooms, RoomEntry, RoomList
from records import PAGE_MAX, BannedError, NotAllowedError, NotFoundError, Standing
from refusals import refusing
from store import Store
from store_results import StoreError
from unannounced import Unannounced
from wireroom.core import Context, LocalProtocolError, Module


@refusing
async def list_rooms(ctx: Context, data: ListRooms, store: Store) -> RoomList:
    find = partial(memberships.rooms_of, account_id=ctx.user.id, after=data.after, limit=PAGE_MAX)
    found, more = await store.read(find)
    return RoomList(
        [
            RoomEntry(
                each.name,
                each.last_offset,
                each.unread,
                _members(ctx, each.name),
                each.is_joined,
                each.direct,
            )
            for each in found
        ],
        more,
    )


def _members(ctx: Context, name: str) -> int | None:
    """How many are in a room, at all nodes; other nodes tell those who have somebody in it."""
    room = ctx.room(name)
    if not len(room) and ctx.hub.is_backplane_connected is not None:
        return None
    return len({member.user for member in room.presence()})


@refusing
async def create_room(ctx: Context, data: CreateRoom, store: Store) -> RoomEntry:
    room = await store.create_room(data.room, ctx.user)
    return RoomEntry(room.name, room.last_offset, 0, 0, is_joined=False)


@refusing
async def join_room(ctx: Context, data: JoinRoom, store: Store, operators: Operators) -> JoinedRoom:
    account = ctx.user
    look = partial(memberships.standing, name=data.room, account_id=account.id)
    if memberships.direct_ids(data.room) is not None:
        raise NotAllowedError("direct messages come without joining")
    leave = partial(memberships.leave, name=data.room, account_id=account.id)
    await begin_record(ctx.hub, store)
    before = _allowed(await store.read(look))
    if before.read_offset is None:
        await store.write(
            partial(memberships.join, room=before.room, account_id=account.id, now=store.now)
        )
    room = ctx.room(data.room)
    was_in = ctx.session in room
    try:
        recovery = await ctx.session.recover(data.room, data.position)
    except LocalProtocolError as error:
        raise NotAllowedError("the room is full, or you are in too many") from error
    # Only now is the newest offset known that might be missed, and whether a ban came meanwhile.
    try:
        after = _allowed(await store.read(look))
    except BannedError:
        ctx.session.leave(data.room)
        await store.write(leave)
        raise
    except (StoreError, TimeoutError):
        if not was_in:  # who is told that it failed is not to be in
            ctx.session.leave(data.room)
        raise
    if ctx.session not in room:
        raise NotAllowedError("you were kicked out of this room")
    ctx.hub.service(Unannounced).joined(room, recovery.position, after.room.last_offset)
    return JoinedRoom(
        data.room,
        recovered=recovery.recovered,
        position=recovery.position,
        members=ctx.hub.service(Presences).accounts_in(room),
        last_offset=after.room.last_offset,
        read_offset=after.room.last_offset if after.read_offset is None else after.read_offset,
        may_moderate=operators.may_moderate(account, after.room),
        slow_mode_s=after.room.slow_mode_s,
    )


def _allowed(standing: Standing) -> Standing:
    if standing.is_banned:
        raise BannedError("you are banned from this room")
    return standing


@refusing
async def leave_room(ctx: Context, data: LeaveRoom, store: Store) -> None:
    if not ctx.session.leave(data.room):
        raise NotFoundError("you are not in this room")
    room = ctx.room(data.room)
    if not any(session in room for session in ctx.hub.user(ctx.user.id).sessions):
        await store.write(partial(memberships.leave, name=data.room, account_id=ctx.user.id))


def add_rooms(module: Module) -> None:
    """Their handlers."""
    for handler in (list_rooms, create_room, join_room, leave_room):
        module.handler(handler)
