"""Members of chat rooms who talk and listen while servers come and go, and keep count.

Each does what a good client does: comes back when the connection is lost, with the position that
it has reached; sends a message again, under the same id, until it is acknowledged; and asks for the
history where it misses an offset. What it must never see is an error in its own `problems`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Coroutine
from typing import Any, Final, final

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from chat_nodes import Node

PAUSE_S: Final = 0.1  # before it is tried again
REPLY_TIMEOUT_S: Final = 30.0  # longer than the chat waits for its store
_AGAIN: Final = ("store_away", "store_busy", "store_slow", "not_joined")
_SHOWN_MAX: Final = 20  # members that a failure tells of


class LostError(Exception):
    """The connection, or a reply to a request."""


class RefusedError(LostError):
    """The reply is that it has to be tried again."""


@final
class Progress:
    """Lets a test wait for what members do, and counts what all do together."""

    def __init__(self) -> None:
        self.acknowledged = 0
        self.refused: Counter[str] = Counter()  # what was to be tried again, by code
        self._made = asyncio.Event()

    def make(self) -> None:
        """Something has happened."""
        self._made.set()

    async def until(self, what: str, condition: Callable[[], bool], timeout_s: float) -> None:
        """Wait for it to be true. Raises `AssertionError` if it is not in time."""
        try:
            async with asyncio.timeout(timeout_s):
                while not condition():
                    self._made.clear()
                    await self._made.wait()
        except TimeoutError:
            raise AssertionError(f"not within {timeout_s:g} s: {what}") from None

    async def until_all(
        self,
        what: str,
        members: Collection[Member],
        has: Callable[[Member], bool],
        timeout_s: float,
    ) -> None:
        """Wait until each member `has` done something. Raises `AssertionError`, which says how
        those are that have not."""
        try:
            await self.until(what, lambda: all(map(has, members)), timeout_s)
        except AssertionError as error:
            late = [member.state for member in members if not has(member)]
            shown = "\n".join(late[:_SHOWN_MAX])
            raise AssertionError(f"{error}: {len(late)} of {len(members)}\n{shown}") from None


@final
class Member:
    """A member of one room. `next_node()` says where to connect to, each time."""

    def __init__(
        self, name: str, room: str, token: str, next_node: Callable[[], Node], progress: Progress
    ) -> None:
        self.name = name
        self.room = room
        self.node: Node | None = None  # where it is, or tries to be
        self.acknowledged: dict[str, int] = {}  # offsets of own messages, by their client ids
        self.received: dict[int, str] = {}  # client ids of the room's messages, by their offsets
        self.problems: list[str] = []
        self.is_in = asyncio.Event()
        self.connections = 0
        self.recovered = 0  # how often that was all by the position
        self.histories = 0  # pages that were asked for
        self._progress = progress
        self._next_node = next_node
        self._token = token
        self._heard: set[int] = set()  # offsets that came as `chat_message`
        self._position: dict[str, Any] | None = None
        self._ws: ClientConnection | None = None
        self._requests: dict[int, asyncio.Future[Any]] = {}
        self._number = 0
        self._filling: asyncio.Task[None] | None = None
        self.last = 0  # the offset up to which it has everything
        self._newest = 0  # the highest offset that it knows of

    def __str__(self) -> str:
        return f"{self.name} of {self.room} at {self.node}"

    @property
    def state(self) -> str:
        """All that explains why it does not go on."""
        return (
            f"{self}: {'in' if self.is_in.is_set() else 'not in'},"
            f" {'connected' if self._ws is not None else 'not connected'},"
            f" {self.connections} connections, {len(self.acknowledged)} acknowledged,"
            f" all up to {self.last} of {self._newest}, position {self._position},"
            f" {len(self._requests)} requests under way, problems {self.problems[:3]}"
        )

    def _complain(self, problem: str) -> None:
        self.problems.append(f"{self}, connection {self.connections}: {problem}")
        self._progress.make()

    # -- connecting ---------------------------------------------------------------------------

    async def live(self) -> None:
        """Be connected, again and again, until cancelled."""
        while True:
            self.node = self._next_node()
            try:
                async with connect(
                    self.node.url,
                    additional_headers={"Authorization": f"Bearer {self._token}"},
                    proxy=None,
                    compression=None,
                    open_timeout=REPLY_TIMEOUT_S,
                    ping_interval=None,
                ) as ws:
                    self.connections += 1
                    await self._stay(ws)
            except (OSError, WebSocketException, TimeoutError):
                pass
            await asyncio.sleep(PAUSE_S)

    async def _stay(self, ws: ClientConnection) -> None:
        """Until the connection is lost."""
        self._ws = ws
        entering = self._begin(self._enter(ws))
        try:
            async for message in ws:
                self._take(msgspec.json.decode(message))
        finally:
            self.is_in.clear()
            self._ws = None
            entering.cancel()
            self._fail_requests()

    async def _enter(self, ws: ClientConnection) -> None:
        """Join the room; again, while that is refused. Without an answer it is not known where one
        is: then the connection is given up."""
        while True:
            try:
                joined = await self._ask("join_room", room=self.room, position=self._position)
            except RefusedError:
                await asyncio.sleep(PAUSE_S)
                continue
            except LostError:
                await ws.close()
                return
            break
        if self._ws is not ws:
            return
        self.recovered += joined["recovered"]
        self._reach(joined["position"])
        self._know(joined["last_offset"])
        self.is_in.set()
        self._progress.make()

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Do something meanwhile; if it fails, that is a problem."""
        task = asyncio.create_task(work)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._complain(repr(error))

    # -- talking ------------------------------------------------------------------------------

    async def say(self, client_id: str) -> None:
        """Say something, again until it is acknowledged."""
        while True:
            await self.is_in.wait()
            try:
                stored = await self._ask(
                    "chat_message", room=self.room, text=client_id, client_id=client_id
                )
            except LostError:
                await asyncio.sleep(PAUSE_S)
                continue
            self.acknowledged[client_id] = stored["offset"]
            self._progress.acknowledged += 1
            self._progress.make()
            return

    async def _ask(self, kind: str, **fields: Any) -> Any:
        """A request's reply. Raises `LostError` if there is none, `RefusedError` if it is to be
        tried again."""
        if self._ws is None:
            raise LostError
        self._number += 1
        number = self._number
        reply = self._requests[number] = asyncio.get_running_loop().create_future()
        message = {"type": kind, "request_id": number, **fields}
        try:
            await self._ws.send(msgspec.json.encode(message).decode())
            answer = await asyncio.wait_for(reply, REPLY_TIMEOUT_S)
        except (OSError, WebSocketException, TimeoutError) as error:
            raise LostError from error
        finally:
            self._requests.pop(number, None)
        if answer["type"] == "error":
            self._progress.refused[answer["code"]] += 1
            self._progress.make()
            if answer["code"] not in _AGAIN:
                self._complain(f"{kind}: {answer}")
            raise RefusedError
        return answer["data"]

    def _fail_requests(self) -> None:
        for reply in self._requests.values():
            if not reply.done():
                reply.set_exception(LostError())

    # -- listening ----------------------------------------------------------------------------

    def _take(self, message: dict[str, Any]) -> None:
        request_id = message.get("request_id")
        if request_id is not None:
            reply = self._requests.get(request_id)
            if reply is not None and not reply.done():
                reply.set_result(message)
            return
        if message["type"] in ("chat_message", "message_changed"):
            if message["type"] == "chat_message":
                if message["offset"] in self._heard:
                    self._complain(f"heard twice: {message}")
                self._heard.add(message["offset"])
            self._advance(message["position"])
            self._store(message)
            self._know(message["offset"])
        elif message["type"] == "messages_missed":
            self._position = message["position"]
            self._know(self.last + 1)
        elif message["type"] == "error":
            self._complain(str(message))
        elif "position" in message:
            self._advance(message["position"])

    def _advance(self, position: dict[str, Any]) -> None:
        """A message's position is the next, unless it is the first that is known of an epoch."""
        before = self._position
        if before is not None and before["epoch"] == position["epoch"]:
            expected = before["offset"] + 1
            if position["offset"] != expected:
                self._complain(f"position {position} in place of {expected}")
        self._position = {"offset": position["offset"], "epoch": position["epoch"]}

    def _reach(self, position: dict[str, Any]) -> None:
        """What a reply says is the newest position; messages may have come before it."""
        before = self._position
        if before is None or before["epoch"] != position["epoch"]:
            self._position = position

    def _store(self, message: dict[str, Any]) -> None:
        known = self.received.setdefault(message["offset"], message["client_id"])
        if known != message["client_id"]:
            self._complain(f"another message was {known}: {message}")
        while self.last + 1 in self.received:
            self.last += 1
            self._progress.make()

    def _know(self, offset: int) -> None:
        """There is a message of this offset: ask for those that are missing."""
        self._newest = max(self._newest, offset)
        if self.last < self._newest and (self._filling is None or self._filling.done()):
            self._filling = self._begin(self._fill())

    async def _fill(self) -> None:
        while self.last < self._newest:
            newest = self._newest
            try:
                page = await self._ask("history", room=self.room, after=self.last, limit=200)
            except LostError:
                if self._ws is None:
                    return  # joining again tells what is missing
                await asyncio.sleep(PAUSE_S)
                continue
            self.histories += 1
            for message in reversed(page["messages"]):
                self._store(message)
            if not page["messages"] and self._newest == newest:
                self._newest = self.last  # nothing was missed after all
