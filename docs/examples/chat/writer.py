"""A thread that writes to a database, in one transaction what arrived during the last.

A commit costs a write to the disk, whatever is in it: so the more there is to write, the more a
commit takes with it. What is asked for is done in its order, and its result is known when its
transaction is committed, not earlier.
"""

from __future__ import annotations

import logging
import random
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias, final

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import IntegrityError

from database import is_away, is_conflict, migrate
from store_results import Result, StoreAwayError, StoreBusyError, StoreError

logger: Final = logging.getLogger("chat.store")

Work: TypeAlias = Callable[[Connection, Sequence[Any]], Sequence[Any]]
"""Gets arguments, in order, and gives for each a value, or a `StoreError` for whoever asked.

It raises for nothing that only one of them is to blame for, unless it has written nothing.
"""

_GROUP_MAX: Final = 1000  # operations in a transaction
_LOOK_S: Final = 5.0  # without work, the database is looked at so often
_BACKOFF_S: Final = (0.1, 5.0)  # between attempts to reach it, at first and at most
_ATTEMPTS: Final = 3  # of a transaction that others are in the way of


@final
class Operation:
    """Something to write: `work` with one of its `argument`s. Neighbours with the same `work` are
    done by one call of it. With `find`, what became of it when its commit was interrupted can be
    found out: its value, or None."""

    __slots__ = ("argument", "find", "result", "work")

    def __init__(
        self, work: Work, argument: Any, result: Result[Any], find: Work | None = None
    ) -> None:
        self.work = work
        self.argument = argument
        self.result = result
        self.find = find


@final
class Writer:
    """Writes what it is given, from `start` to `close`.

    At most `waiting_max` operations wait. While the database is away, operations fail at once, and
    it is tried again with increasing patience; `recovered(operation, value)` is called in the
    writer's thread for each operation that failed, because its commit was interrupted, and turns
    out to have been committed.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        waiting_max: int,
        recovered: Callable[[Operation, Any], object],
    ) -> None:
        self._engine = engine
        self._waiting_max = waiting_max
        self._recovered = recovered
        self._waiting: deque[Operation] = deque()
        self._changed = threading.Condition()
        self._must_look = False
        self._closing = False
        self._doubtful: list[Operation] = []
        self._connection: Connection | None = None
        self._ready = threading.Event()  # whether the database can be reached
        self._thread = threading.Thread(target=self._run, name="chat-writer", daemon=True)
        self.commits = 0

    @property
    def is_available(self) -> bool:
        """Whether the database could be reached when it was tried last."""
        return self._ready.is_set()

    def start(self, wait_s: float) -> bool:
        """Begin; gives whether the database was reached, and brought up to date, in time."""
        self._thread.start()
        return self._ready.wait(wait_s)

    def close(self, timeout_s: float) -> bool:
        """Write what waits, and end; False if that takes longer."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def submit(self, operation: Operation) -> None:
        """Have something written. In any thread; it fails at once if it cannot be."""
        with self._changed:
            if not self._ready.is_set() or self._closing:
                error: StoreError = StoreAwayError("the database cannot be reached")
            elif len(self._waiting) >= self._waiting_max:
                error = StoreBusyError("too much waits to be written")
            else:
                self._waiting.append(operation)
                if len(self._waiting) == 1:
                    self._changed.notify()
                return
        operation.result.fail(error)

    def look(self) -> None:
        """Somebody else found the database away: see whether it is. In any thread."""
        with self._changed:
            self._must_look = True
            self._changed.notify()

    # -- the thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        self._reach()
        while self._ready.is_set():
            group = self._next_group()
            if group is None:
                break
            self._write(group)
            if not self._ready.is_set():
                self._reach()
        self._disconnect()

    def _next_group(self) -> list[Operation] | None:
        """What waits, or nothing when the database is to be looked at; None at the end."""
        with self._changed:
            while not self._waiting and not self._must_look:
                if self._closing:
                    return None
                if not self._changed.wait(_LOOK_S):
                    break
            self._must_look = False
            return [self._waiting.popleft() for _ in range(min(len(self._waiting), _GROUP_MAX))]

    def _write(self, group: list[Operation]) -> None:
        """Write a group; if one of it cannot be written, each by itself."""
        for attempt in range(1, _ATTEMPTS + 1):
            committing = False
            connection = self._connection
            assert connection is not None
            try:
                with connection.begin() as transaction:
                    values = _do(connection, group)
                    committing = True
                    transaction.commit()
            except Exception as error:
                if is_conflict(error) and attempt < _ATTEMPTS:
                    continue
                if is_away(error):
                    self._lose(error, group, committed=committing)
                    return
                if len(group) > 1:
                    break
                if isinstance(error, IntegrityError) and attempt < _ATTEMPTS:
                    continue  # another node was faster: this time it will be seen
                if group:
                    if not isinstance(error, StoreError):
                        logger.error("cannot be stored", exc_info=error)
                        error = StoreError("this cannot be stored")
                    group[0].result.fail(error)
                return
            self.commits += bool(group)
            for operation, value in zip(group, values, strict=True):
                if isinstance(value, StoreError):
                    operation.result.fail(value)
                else:
                    operation.result.succeed(value)
            return
        for index, operation in enumerate(group):
            if not self._ready.is_set():
                _fail(group[index:])
                return
            self._write([operation])

    def _lose(self, error: Exception, group: list[Operation], *, committed: bool) -> None:
        """The database is away: all that waits for it has failed."""
        logger.warning("the database is away: %s", _first_line(error))
        with self._changed:
            self._ready.clear()
            waiting = list(self._waiting)
            self._waiting.clear()
        if committed:
            self._doubtful += [each for each in group if each.find is not None]
        self._disconnect()
        _fail([*group, *waiting])

    def _reach(self) -> None:
        """Connect, bring the tables up to date, and see what became of interrupted commits; again
        until it succeeds, or this is closed."""
        shortest, longest = _BACKOFF_S
        pause_s = shortest
        while not self._closing:
            try:
                self._connect()
            except Exception as error:
                self._disconnect()
                logger.warning(
                    "the database cannot be reached: %s",
                    _first_line(error),
                    exc_info=None if is_away(error) else error,
                )
                with self._changed:
                    self._changed.wait_for(
                        lambda: self._closing,
                        pause_s * random.uniform(0.5, 1.0),
                    )
                pause_s = min(2 * pause_s, longest)
            else:
                with self._changed:
                    self._ready.set()
                logger.info("the database can be reached")
                return

    def _connect(self) -> None:
        connection = self._connection = self._engine.connect().execution_options(writes=True)
        with connection.begin():
            migrate(connection)
        doubtful = list(self._doubtful)
        for operation in doubtful:
            assert operation.find is not None
            with connection.begin():
                value = operation.find(connection, [operation.argument])[0]
            self._doubtful.remove(operation)
            if value is not None:
                self._recovered(operation, value)

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.invalidate()
                connection.close()
            except Exception as error:  # it is broken anyway
                logger.debug("closing failed: %s", error)


def _do(connection: Connection, group: list[Operation]) -> list[Any]:
    """All of a group, in order; one call for neighbours with the same work."""
    if not group:
        connection.execute(text("SELECT 1"))
    values: list[Any] = []
    begin = 0
    for end in range(1, len(group) + 1):
        if end == len(group) or group[end].work is not group[begin].work:
            work = group[begin].work
            values += work(connection, [each.argument for each in group[begin:end]])
            begin = end
    if len(values) != len(group):
        raise ValueError(f"{len(group)} operations gave {len(values)} values")
    return values


def _fail(operations: Sequence[Operation]) -> None:
    for operation in operations:
        operation.result.fail(StoreAwayError("the database went away"))


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
