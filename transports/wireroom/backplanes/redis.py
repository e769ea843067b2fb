"""Redis as a backplane, by coredis: on asyncio, on trio, and in a thread of its own.

    Server(app, backplane=RedisBackplane("redis://localhost:6379"))
    Server(app, backplane=RedisBackplane("redis://node1:7000", cluster=True))

A channel is a channel of Redis (of sharded pub/sub in a Cluster). A room's history is a stream,
whose entries have the offsets as their ids, and a hash with the epoch and the newest offset; one
script numbers a message, keeps it and publishes it. Commands and publications share a connection
(one a shard), so that they come in the order of Redis, and the loss of one is that of both.
"""

from __future__ import annotations

import binascii
import hashlib
import logging
import random
import secrets
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final, final

import anyio
from anyio.abc import TaskStatus
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from wireroom.core import BackplaneSettings, ConfigurationError
from wireroom.core.backplane import (
    Append,
    Appended,
    BackplaneConnected,
    BackplaneInput,
    BackplaneLost,
    BackplaneOutput,
    Confirmed,
    HistoryRead,
    Publish,
    Published,
    ReadHistory,
    Subscribe,
)

from .link import Link

try:
    from coredis.connection import BaseConnection, ClusterConnection, TCPLocation
    from coredis.pool import ClusterConnectionPool, ConnectionPool
except ImportError as error:  # pragma: no cover - without the extra
    raise ConfigurationError("backplane", "coredis is not installed: wireroom[redis]") from error

logger: Final = logging.getLogger("wireroom.redis")

_SLOTS: Final = 16384  # of a Cluster
# What a URL says that is so for all of its nodes.
_CLUSTER_OPTIONS: Final = (
    "connect_timeout",
    "credential_provider",
    "password",
    "ssl_context",
    "stream_timeout",
    "username",
)
_SAID_S: Final = 3600  # for so long a node's last number in a room is known
_OFFSET_MAX: Final = 2**53  # what a script counts exactly

# KEYS: the stream, the hash, the node's last number. ARGV: channel, message, number, messages_max,
# age in ms, the epoch if a new one begins, seconds that the hash is kept, the command to publish,
# seconds that the last number is kept, bytes_max. An entry's `b` is how many bytes the room's
# messages have had up to its end, so that those of all after it are a difference. Those that are
# kept cannot be too many before `bytes` is more than the hash's `check` for this bytes_max.
_APPEND: Final = """
local number = tonumber(ARGV[3])
if number <= tonumber(redis.call('GET', KEYS[3]) or '0') then return 0 end
redis.call('SET', KEYS[3], ARGV[3], 'EX', ARGV[9])
local check = 'check' .. ARGV[10]
local room = redis.call('HMGET', KEYS[2], 'epoch', check)
local epoch = room[1]
if not epoch then
  epoch = ARGV[6]
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[2], 'epoch', epoch, 'offset', 0)
end
local offset = redis.call('HINCRBY', KEYS[2], 'offset', 1)
redis.call('EXPIRE', KEYS[2], ARGV[7])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local bytes = redis.call('HINCRBY', KEYS[2], 'bytes', #ARGV[2])
redis.call('XADD', KEYS[1], 'MAXLEN', ARGV[4], offset .. '-0',
  'm', ARGV[2], 't', now, 'b', bytes)
if bytes > tonumber(room[2] or ARGV[10]) then
  local bytes_max = tonumber(ARGV[10])
  local kept
  repeat
    local oldest = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
    local fields = oldest and oldest[2]
    kept = fields and fields[6] and bytes - fields[6] + #fields[2] or 0
    if kept > bytes_max then redis.call('XDEL', KEYS[1], oldest[1]) end
  until kept <= bytes_max
  redis.call('HSET', KEYS[2], check, bytes + bytes_max - kept)
end
redis.call('PEXPIRE', KEYS[1], ARGV[5])
redis.call(ARGV[8], ARGV[1], 'A' .. offset .. ' ' .. epoch .. ' ' .. ARGV[2])
return offset
"""

# KEYS: the stream, the hash. ARGV: the offset after which, or ''; age in ms, the epoch if a new one
# begins, seconds that the hash is kept, the epoch that is to end, or ''.
_READ: Final = """
local epoch = redis.call('HGET', KEYS[2], 'epoch')
if not epoch or epoch == ARGV[5] then
  epoch = ARGV[3]
  redis.call('DEL', KEYS[1], KEYS[2])
  redis.call('HSET', KEYS[2], 'epoch', epoch, 'offset', 0)
end
redis.call('EXPIRE', KEYS[2], ARGV[4])
local offset = tonumber(redis.call('HGET', KEYS[2], 'offset'))
local messages = {}
if ARGV[1] ~= '' and tonumber(ARGV[1]) < offset then
  local time = redis.call('TIME')
  local since = time[1] * 1000 + math.floor(time[2] / 1000) - tonumber(ARGV[2])
  for _, entry in ipairs(redis.call('XRANGE', KEYS[1], '(' .. ARGV[1] .. '-0', '+')) do
    if tonumber(entry[2][4]) > since then messages[#messages + 1] = entry[2][2] end
  end
end
return {epoch, offset, messages}
"""


def _sha(script: str) -> str:
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()


_APPEND_SHA: Final = _sha(_APPEND)
_READ_SHA: Final = _sha(_READ)


@final
class RedisBackplane:
    """A Redis server, or a Cluster, by its URL (redis://, rediss:// or unix://).

    `prefix` stands before all names of ours in it, for several applications on one. It is
    connected to again after `retry_s` seconds, twice as many each time up to `retry_max_s`, and is
    given up for lost if it does not answer within `answer_timeout_s`. A room that nobody has said
    anything in for `rooms_kept_s` seconds begins another epoch.
    Raises `ConfigurationError`.
    """

    def __init__(
        self,
        url: str,
        *,
        cluster: bool = False,
        prefix: str = "wireroom",
        settings: BackplaneSettings | None = None,
        retry_s: float = 0.1,
        retry_max_s: float = 5.0,
        answer_timeout_s: float = 5.0,
        rooms_kept_s: int = 30 * 86400,
    ) -> None:
        if not url.startswith(("redis://", "rediss://", "unix://")) or (
            cluster and url.startswith("unix://")
        ):
            raise ConfigurationError("REDIS_URL", "must be redis://, rediss:// or unix://")
        for name, seconds in (
            ("retry_s", retry_s),
            ("retry_max_s", retry_max_s),
            ("answer_timeout_s", answer_timeout_s),
            ("rooms_kept_s", rooms_kept_s),
        ):
            if not seconds > 0:
                raise ConfigurationError(name, f"must be more than 0 seconds, not {seconds!r}")
        self.settings = settings or BackplaneSettings()
        self._url = url
        self._is_cluster = cluster
        self._prefix = prefix
        self._retry_s = retry_s
        self._retry_max_s = retry_max_s
        self._answer_timeout_s = answer_timeout_s
        self._rooms_kept_s = rooms_kept_s
        self._problem: str | None = "not connected yet"

    def __repr__(self) -> str:
        """Without the URL, which may have a password."""
        return f"<RedisBackplane {self._prefix!r}>"

    def problem(self) -> str | None:
        """Why it is away, for a health check; None if it is there."""
        return self._problem

    async def run(self, link: Link) -> None:
        """See `Backplane.run`."""
        delay_s = self._retry_s
        while True:
            began = anyio.current_time()
            try:
                async with self._connected() as shards:
                    await _Connected(self, shards, link).run(self._is_there)
            except Exception as error:  # whatever it is, it is away
                why = _why(error)
            else:
                why = "the connection has ended"
            self._problem = why
            link.deliver(BackplaneLost(why))
            if anyio.current_time() - began > self._retry_max_s:
                delay_s = self._retry_s  # it was there for a while
            logger.warning("Redis is away: %s; again in %.1f s", why, delay_s)
            await anyio.sleep(delay_s * random.uniform(0.5, 1.0))  # not all nodes at once
            delay_s = min(2 * delay_s, self._retry_max_s)

    def _is_there(self) -> None:
        self._problem = None
        logger.info("Redis is there")

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[_Shards]:
        """Connections to the server, or to each shard of the Cluster."""
        options: dict[str, Any] = {
            "connect_timeout": self._answer_timeout_s,
            "stream_timeout": self._answer_timeout_s,
        }
        async with AsyncExitStack() as stack:
            if not self._is_cluster:
                connection = await stack.enter_async_context(_connection(self._url, options))
                yield _Shards([connection], lambda slot: connection)
                return
            one = ConnectionPool.from_url(self._url, **options)
            kept: dict[str, Any] = {
                name: one.connection_kwargs.get(name) for name in _CLUSTER_OPTIONS
            }
            location = one.location
            if not isinstance(location, TCPLocation):
                raise ConnectionError("a Cluster is at hosts and ports")
            cluster = ClusterConnectionPool(
                startup_nodes=[location], connection_class=_ShardConnection, **kept
            )
            layout = cluster.cluster_layout
            stack.callback(_close_streams, layout)
            await stack.enter_async_context(cluster)
            connections: dict[Any, BaseConnection] = {}
            for node in layout.primaries:
                connections[node.node_id] = await stack.enter_async_context(
                    cluster.acquire(node=node)
                )

            def of_slot(slot: int) -> BaseConnection:
                node = layout.node_for_slot(slot, primary=True)
                if node is None:
                    raise ConnectionError(f"no shard has the slot {slot}")
                return connections[node.node_id]

            yield _Shards(list(connections.values()), of_slot)

    # -- names in Redis ---------------------------------------------------------------------------

    @property
    def publish_command(self) -> bytes:
        return b"SPUBLISH" if self._is_cluster else b"PUBLISH"

    @property
    def subscribe_commands(self) -> tuple[bytes, bytes]:
        """To subscribe, and to unsubscribe."""
        return (
            (b"SSUBSCRIBE", b"SUNSUBSCRIBE") if self._is_cluster else (b"SUBSCRIBE", b"UNSUBSCRIBE")
        )

    @property
    def answer_timeout_s(self) -> float:
        return self._answer_timeout_s

    @property
    def rooms_kept_s(self) -> int:
        return self._rooms_kept_s

    def name(self, channel: str) -> bytes:
        """A channel's in Redis. What is in braces chooses the shard, for its keys too."""
        escaped = channel.replace("%", "%25").replace("{", "%7B").replace("}", "%7D")
        return f"{self._prefix}:{{{escaped}}}".encode()

    def channel(self, name: bytes) -> str:
        """The other way round."""
        escaped = name.decode()[len(self._prefix) + 2 : -1]
        return escaped.replace("%7D", "}").replace("%7B", "{").replace("%25", "%")


@asynccontextmanager
async def _connection(url: str, options: dict[str, Any]) -> AsyncIterator[BaseConnection]:
    """A connection of its own. A pool would leave the streams of one that fails unclosed."""
    pool = ConnectionPool.from_url(url, **options)
    assert pool.location is not None
    connection: BaseConnection = pool.connection_class(pool.location, **pool.connection_kwargs)
    try:
        async with anyio.create_task_group() as group:
            await group.start(connection.run)
            try:
                yield connection
            finally:
                group.cancel_scope.cancel()
    finally:
        _close_streams(connection)


def _close_streams(owner: object) -> None:
    """What coredis leaves open of a connection that has failed before it was one, and of a
    Cluster's layout."""
    for held in vars(owner).values():
        for stream in held if isinstance(held, tuple) else (held,):
            if isinstance(stream, MemoryObjectSendStream | MemoryObjectReceiveStream):
                stream.close()


@final
class _ShardConnection(ClusterConnection):
    """A connection in a Cluster's pool."""

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        try:
            await super().run(task_status=task_status)
        finally:
            _close_streams(self)


@final
class _Shards:
    """Connections, and which of them has a slot."""

    __slots__ = ("_of_slot", "connections")

    def __init__(
        self, connections: list[BaseConnection], of_slot: Callable[[int], BaseConnection]
    ) -> None:
        self.connections = connections
        self._of_slot = of_slot

    def of(self, name: bytes) -> BaseConnection:
        """The one for a channel and its keys."""
        if len(self.connections) == 1:
            return self.connections[0]
        tag = name[name.index(b"{") + 1 : name.index(b"}")]
        return self._of_slot(binascii.crc_hqx(tag, 0) % _SLOTS)


@final
class _Connected:
    """The time from one connection to its loss."""

    def __init__(self, redis: RedisBackplane, shards: _Shards, link: Link) -> None:
        self._redis = redis
        self._shards = shards
        self._link = link
        self._asked: deque[tuple[Publish | Append | ReadHistory, Any]] = deque()  # and requests
        self._has_asked = anyio.Event()
        self._subscribed: set[bytes] = set()

    async def run(self, is_there: Callable[[], None]) -> None:
        """Carry what is said, either way; raises when it is lost."""
        for connection in self._shards.connections:
            for script in (_APPEND, _READ):
                await connection.create_request(b"SCRIPT LOAD", script)
        self._link.clear()
        async with anyio.create_task_group() as group:
            for connection in self._shards.connections:
                group.start_soon(self._receive, connection)
                group.start_soon(self._keep_alive, connection)
            group.start_soon(self._answer)
            is_there()
            self._link.deliver(BackplaneConnected())
            while True:
                for output in await self._link.take():
                    self._carry_out(output)
                self._has_asked.set()

    # -- what the hub says ------------------------------------------------------------------------

    def _carry_out(self, output: BackplaneOutput) -> None:
        redis = self._redis
        name = redis.name(output.channel)
        connection = self._shards.of(name)
        if isinstance(output, Append):
            request = connection.create_request(
                b"EVALSHA",
                _APPEND_SHA,
                3,
                name + b":stream",
                name + b":room",
                name + b":said:" + self._link.node.encode(),
                name,
                output.message,
                output.number,
                output.messages_max,
                int(output.age_s * 1000),
                secrets.token_hex(4),
                redis.rooms_kept_s,
                redis.publish_command,
                _SAID_S,
                output.bytes_max,
            )
            self._asked.append((output, request))
        elif isinstance(output, Publish):
            command = redis.publish_command
            request = connection.create_request(command, name, b"P" + output.payload)
            self._asked.append((output, request))
        elif isinstance(output, ReadHistory):
            request = connection.create_request(
                b"EVALSHA",
                _READ_SHA,
                2,
                name + b":stream",
                name + b":room",
                "" if output.after is None else min(output.after, _OFFSET_MAX),
                int(output.age_s * 1000),
                secrets.token_hex(4),
                redis.rooms_kept_s,
                output.renew,
            )
            self._asked.append((output, request))
        else:
            subscribe, unsubscribe = redis.subscribe_commands
            if isinstance(output, Subscribe):
                self._subscribed.add(name)
                connection.send_command(subscribe, name)
            else:
                self._subscribed.discard(name)
                connection.send_command(unsubscribe, name)

    # -- what Redis says --------------------------------------------------------------------------

    async def _answer(self) -> None:
        """Answers, in the order in which they were asked for."""
        while True:
            await self._has_asked.wait()
            self._has_asked = anyio.Event()
            confirmed = 0
            while self._asked:
                output, request = self._asked[0]
                if confirmed and not request.complete:
                    self._link.deliver(Confirmed(confirmed))
                    confirmed = 0
                result = await request
                self._asked.popleft()
                if isinstance(output, ReadHistory):
                    epoch, offset, messages = result
                    self._link.deliver(
                        HistoryRead(
                            output.channel,
                            output.number,
                            epoch.decode(),
                            offset,
                            [message.decode() for message in messages],
                        )
                    )
                elif output.number:
                    confirmed = output.number
            if confirmed:
                self._link.deliver(Confirmed(confirmed))

    async def _receive(self, connection: BaseConnection) -> None:
        async for message in connection.push_messages:
            event = self._event(message)
            if event is not None:
                self._link.deliver(event)

    def _event(self, message: Any) -> BackplaneInput | None:
        kind, name, data = message[:3]
        if kind == b"sunsubscribe" and name in self._subscribed:
            raise ConnectionError("a slot has moved to another shard")
        if kind not in (b"message", b"smessage"):
            return None
        channel = self._redis.channel(name)
        if data[:1] == b"A":
            offset, epoch, text = data[1:].split(b" ", 2)
            return Appended(channel, text.decode(), int(offset), epoch.decode())
        return Published(channel, data[1:])

    async def _keep_alive(self, connection: BaseConnection) -> None:
        """Notice a server that is gone without a word."""
        while True:
            await anyio.sleep(self._redis.answer_timeout_s)
            await connection.create_request(b"PING")


def _why(error: BaseException) -> str:
    """The first cause, in a line."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}".partition("\n")[0]
