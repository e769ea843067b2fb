"""The chat's store: accounts, rooms and messages in SQLite or PostgreSQL.

store = Store(settings.database_url)
store.start()

@chat.handler
async def say(ctx: Context, data: Say, store: Store) -> ChatMessage:
    appended = store.append(data.room, ctx.user, data.text, data.client_id)
    ctx.hub.completion(appended.committed).then(ctx.room(data.room).broadcast)
    return await appended

Everything it gives is a `Result`: awaited in handlers, on any transport, and waited for in threads.
`committed` is what a message is broadcast by: nothing is that is not stored, and what is, is in the
order of its offsets.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar, final

from sqlalchemy import Connection, select, update

import queries
from database import is_away, new_engine
from names import check_scripts, check_seen, name_key, room_name
from records import (
    CLIENT_ID_CHARACTERS_MAX,
    NAME_CHARACTERS_MAX,
    PAGE_MAX,
    TEXT_CHARACTERS_MAX,
    Account,
    NotFoundError,
    Page,
    Room,
    StoredMessage,
    checked,
)
from schema import rooms, users
from store_results import Result, StoreAwayError, StoreBusyError, StoreError
from writer import Operation, Writer

T = TypeVar("T")


@final
class Appended(Result[StoredMessage]):
    """A message that is being stored.

    `committed` has it once it is known to be in the database, if it was not before: at the same
    time as the result, or later, if the connection was lost in its commit. It may never have it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.committed: Future[StoredMessage] = Future()

    def succeed(self, value: Any) -> None:
        message, is_new = value
        if is_new:
            self.committed.set_result(message)
        super().succeed(message)


@final
class Store:
    """A database, and the threads that speak with it: one that writes, `readers` that read.

    At most `waiting_max` writes and as many reads wait; more of them fail at once with
    `StoreBusyError`, and all do with `StoreAwayError` while the database is away, until it is back.
    Raises `ConfigurationError` for a URL that cannot work. `clock` gives Unix seconds.
    """

    def __init__(
        self,
        database_url: str | None = None,
        *,
        waiting_max: int = 10_000,
        readers: int = 2,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._engine = new_engine(database_url)
        self._clock = clock
        self._writer = Writer(self._engine, waiting_max=waiting_max, recovered=_recovered)
        self._readers = ThreadPoolExecutor(readers, thread_name_prefix="chat-reader")
        self._may_read = threading.BoundedSemaphore(waiting_max)

    def start(self, wait_s: float = 10.0) -> bool:
        """Connect, and bring the tables up to date; False if the database is away for now."""
        return self._writer.start(wait_s)

    def close(self, timeout_s: float = 10.0) -> bool:
        """Write what waits, and end; False if that takes longer."""
        self._readers.shutdown(wait=True, cancel_futures=False)
        closed = self._writer.close(timeout_s)
        self._engine.dispose()
        return closed

    @property
    def is_available(self) -> bool:
        """Whether the database could be reached when it was tried last."""
        return self._writer.is_available

    @property
    def commits(self) -> int:
        """How many transactions were committed."""
        return self._writer.commits

    @property
    def now(self) -> float:
        """Unix seconds, by its clock."""
        return self._clock()

    # -- messages -----------------------------------------------------------------------------

    def append(
        self,
        room: str,
        sender: Account,
        text: str,
        client_id: str | None = None,
        *,
        is_free: bool = False,
    ) -> Appended:
        """Store a message. One that the sender has stored before under the same `client_id` gives
        what was stored then, and `committed` nothing.

        Raises `InvalidError`; fails with `NotFoundError` for a room that there is not, and with
        `NotAllowedError` if the sender is banned, muted, or (unless it `is_free`) too fast.
        """
        appended = Appended()
        new = queries.New(
            room,
            sender,
            checked("text", text, TEXT_CHARACTERS_MAX),
            checked("client_id", client_id or uuid.uuid4().hex, CLIENT_ID_CHARACTERS_MAX),
            self._clock(),
            is_free,
        )
        self._writer.submit(Operation(queries.append, new, appended, queries.find))
        return appended

    def edit(self, room: str, offset: int, editor: Account, text: str) -> Result[StoredMessage]:
        """Change the text of an own message; fails with `NotFoundError` or `NotAllowedError`, also
        if the editor is banned or muted."""
        now = self._clock()
        values = {"text": checked("text", text, TEXT_CHARACTERS_MAX), "edited_at": now}
        return self._change(room, offset, editor, values, written_at=now)

    def delete(
        self, room: str, offset: int, account: Account, *, any_sender: bool = False
    ) -> Result[StoredMessage]:
        """Take away the text of an own message, or of anybody's; its offset remains."""
        values = {"text": "", "deleted_at": self._clock()}
        return self._change(room, offset, None if any_sender else account, values)

    def _change(
        self,
        room: str,
        offset: int,
        sender: Account | None,
        values: dict[str, Any],
        *,
        written_at: float | None = None,
    ) -> Result[StoredMessage]:
        return self.write(
            lambda connection: queries.change(connection, room, offset, sender, values, written_at)
        )

    def history(
        self, room: str, *, before: int | None = None, after: int | None = None, limit: int = 50
    ) -> Result[Page]:
        """The newest messages; those next before an offset; or those next after one.

        A page has its messages newest first in all cases, and at most `limit` (and 200) of them.
        """
        limit = max(1, min(limit, PAGE_MAX))
        return self.read(lambda connection: queries.history(connection, room, before, after, limit))

    # -- rooms --------------------------------------------------------------------------------

    def create_room(self, name: str, creator: Account | None = None) -> Result[Room]:
        """Make a room; fails with `TakenError`. Raises `InvalidError`."""
        row = {
            "name": room_name(name),
            "created_by": None if creator is None else creator.id,
            "created_at": self._clock(),
            "last_offset": 0,
        }
        return self.write(lambda connection: queries.create_room(connection, row))

    def find_room(self, name: str) -> Result[Room | None]:
        """A room by its name."""
        return self.read(lambda connection: queries.find_room(connection, name))

    def list_rooms(self, *, after: str = "", limit: int = PAGE_MAX) -> Result[list[Room]]:
        """Rooms by name, those after a name."""
        query = select(rooms).where(rooms.c.name > after).order_by(rooms.c.name)
        query = query.limit(max(1, min(limit, PAGE_MAX)))
        return self.read(
            lambda connection: [Room(**row) for row in connection.execute(query).mappings()]
        )

    # -- accounts -----------------------------------------------------------------------------

    def create_account(self, name: str, password_hash: str) -> Result[Account]:
        """Make an account; fails with `TakenError` if another's name looks the same."""
        name = checked("name", name.strip(), NAME_CHARACTERS_MAX)
        check_seen("name", name)
        check_scripts("name", name)
        row = {
            "name": name,
            "name_key": name_key(name),
            "password_hash": password_hash,
            "created_at": self._clock(),
        }
        return self.write(lambda connection: queries.create_account(connection, row))

    def find_account(self, name: str) -> Result[tuple[Account, str] | None]:
        """An account by its name, and the hash of its password."""
        query = select(users).where(users.c.name_key == name_key(name))
        return self.read(lambda connection: queries.account_and_hash(connection, query))

    def find_account_by_id(self, account_id: int) -> Result[Account | None]:
        """An account by its id, such as a token's subject."""
        query = select(users).where(users.c.id == account_id)

        def find(connection: Connection) -> Account | None:
            found = queries.account_and_hash(connection, query)
            return None if found is None else found[0]

        return self.read(find)

    def set_password_hash(self, account: Account, password_hash: str) -> Result[None]:
        """Give an account another hash: of a new password, or by new parameters."""
        change = update(users).where(users.c.id == account.id).values(password_hash=password_hash)

        def set_hash(connection: Connection) -> None:
            if connection.execute(change).rowcount != 1:
                raise NotFoundError("there is no such account")

        return self.write(set_hash)

    # -- whatever else ------------------------------------------------------------------------

    def write(self, call: Callable[[Connection], T]) -> Result[T]:
        """Have `call(connection)` run in a transaction, which it shares with others.

        To refuse, it raises a `StoreError` before it has changed anything. It may be called again.
        """

        def work(connection: Connection, arguments: Sequence[Any]) -> list[Any]:
            try:
                return [call(connection)]
            except StoreError as error:
                return [error]

        result: Result[T] = Result()
        self._writer.submit(Operation(work, None, result))
        return result

    def read(self, call: Callable[[Connection], T]) -> Result[T]:
        """Have `call(connection)` run in a thread that reads. It may raise a `StoreError`."""
        result: Result[T] = Result()
        if not self.is_available:
            result.fail(StoreAwayError("the database cannot be reached"))
        elif not self._may_read.acquire(blocking=False):
            result.fail(StoreBusyError("too much waits to be read"))
        else:
            self._readers.submit(self._read, call, result)
        return result

    def _read(self, call: Callable[[Connection], T], result: Result[T]) -> None:
        self._may_read.release()
        try:
            with self._engine.connect() as connection:
                value = call(connection)
        except StoreError as error:
            result.fail(error)
        except Exception as error:
            if is_away(error):
                self._writer.look()
                result.fail(StoreAwayError("the database went away"))
            else:
                result.fail(error)
        else:
            result.succeed(value)


def _recovered(operation: Operation, value: Any) -> None:
    """The commit that was interrupted did take place."""
    if isinstance(operation.result, Appended):
        operation.result.committed.set_result(value)
