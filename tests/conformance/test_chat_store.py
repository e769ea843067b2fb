"""The chat's store on SQLite and on PostgreSQL, alone, from every transport, and when the database
is killed."""

from __future__ import annotations

import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import msgspec
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, event, func, select
from sqlalchemy.exc import OperationalError

from database import is_away, new_engine
from databases import POSTGRESQL, SQLITE, postgresql_server, sqlite_url
from harnesses import (
    BlockingHarness,
    LoopHarness,
    run_anyio_asyncio,
    run_anyio_trio,
    run_asyncio,
    run_uvloop,
)
from postgresql import PrivatePostgreSQL
from records import Account, InvalidError, NotAllowedError, NotFoundError, StoredMessage, TakenError
from schema import messages, metadata, rooms
from store import Appended, Store
from store_results import PATIENCE_S, Result, StoreAwayError, StoreBusyError, StoreError
from wireroom.core import Accept, App, ConfigurationError, Context, Request, Session
from wireroom.transports.anyio import Server as AnyioServer
from wireroom.transports.asyncio import Server as AsyncioServer
from wireroom.transports.conformance import Harness, Options
from wireroom.transports.conformance.client import Client

TIMEOUT_S = 20.0
ROOM = "lobby"

NewStore = Callable[..., Store]


@pytest.fixture(scope="module")
def postgresql() -> Iterator[PrivatePostgreSQL]:
    yield from postgresql_server()


@pytest.fixture(params=[SQLITE, POSTGRESQL])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database."""
    if request.param == SQLITE:
        return sqlite_url(tmp_path)
    server: PrivatePostgreSQL = request.getfixturevalue("postgresql")
    return server.new_database()


@pytest.fixture
def new_store(url: str) -> Iterator[NewStore]:
    """Makes stores on the database, and closes them."""
    stores: list[Store] = []

    def make(**options: Any) -> Store:
        store = Store(url, **options)
        stores.append(store)
        assert store.start(TIMEOUT_S)
        return store

    yield make
    for store in stores:
        assert store.close()


@pytest.fixture
def store(new_store: NewStore) -> Store:
    return new_store()


@pytest.fixture
def ann(store: Store) -> Account:
    """An account, and a room."""
    account = store.create_account("Ann", "hash").result(TIMEOUT_S)
    store.create_room(ROOM, account).result(TIMEOUT_S)
    return account


def results(appended: list[Appended]) -> list[StoredMessage]:
    return [each.result(TIMEOUT_S) for each in appended]


def everything(store: Store, room: str = ROOM) -> list[StoredMessage]:
    """A room's messages, oldest first, by pages."""
    found: list[StoredMessage] = []
    more = True
    while more:
        page = store.history(room, after=found[-1].offset if found else 0, limit=200)
        found += page.result(TIMEOUT_S).messages[::-1]
        more = page.result().more
    return found


@contextmanager
def held_up(store: Store) -> Iterator[None]:
    """The writer's thread does nothing else."""
    begun, go_on = threading.Event(), threading.Event()

    def hold(connection: Connection) -> None:
        begun.set()
        assert go_on.wait(TIMEOUT_S)

    held = store.write(hold)
    assert begun.wait(TIMEOUT_S)
    try:
        yield
    finally:
        go_on.set()
        held.result(TIMEOUT_S)


# -- messages -----------------------------------------------------------------------------------


def test_a_room_counts_its_messages(store: Store, ann: Account) -> None:
    store.create_room("other").result(TIMEOUT_S)
    for room in (ROOM, "other", ROOM):
        store.append(room, ann, f"in {room}").result(TIMEOUT_S)
    assert [each.offset for each in everything(store)] == [1, 2]
    assert [(each.offset, each.text) for each in everything(store, "other")] == [(1, "in other")]
    found = store.find_room(ROOM).result(TIMEOUT_S)
    assert found is not None
    assert (found.last_offset, found.created_by) == (2, ann.id)


def test_what_is_stored_is_what_was_given(new_store: NewStore) -> None:
    store = new_store(clock=lambda: 1_700_000_000.25)
    ann = store.create_account("Ann", "hash").result(TIMEOUT_S)
    store.create_room(ROOM).result(TIMEOUT_S)
    text = "Grüße, 👋 %s :x \\ '\"; --"
    stored = store.append(ROOM, ann, text, "c1").result(TIMEOUT_S)
    assert stored == StoredMessage(ROOM, 1, ann.id, "Ann", "c1", text, created_at=1_700_000_000.25)
    assert everything(store) == [stored]


def test_sent_again_it_is_the_first(store: Store, ann: Account) -> None:
    bob = store.create_account("Bob", "hash").result(TIMEOUT_S)
    first = store.append(ROOM, ann, "hello", "c1")
    assert first.result(TIMEOUT_S) == first.committed.result(0)
    again = store.append(ROOM, ann, "hello?", "c1")
    assert again.result(TIMEOUT_S) == first.result()
    assert not again.committed.done()
    assert store.append(ROOM, bob, "hi", "c1").result(TIMEOUT_S).offset == 2
    assert len(everything(store)) == 2


def test_sent_twice_in_one_transaction_it_is_stored_once(store: Store, ann: Account) -> None:
    with held_up(store):
        twice = [store.append(ROOM, ann, text, "c1") for text in ("hello", "hello?")]
    assert [each.text for each in results(twice)] == ["hello", "hello"]
    assert [each.committed.done() for each in twice] == [True, False]
    assert store.append(ROOM, ann, "next").result(TIMEOUT_S).offset == 2


def test_what_waits_is_written_in_one_transaction_and_in_order(store: Store, ann: Account) -> None:
    done: SimpleQueue[int] = SimpleQueue()
    with held_up(store):
        before = store.commits
        appended = [store.append(ROOM, ann, str(number)) for number in range(100)]
        for each in appended:
            each.committed.add_done_callback(lambda future: done.put(int(future.result().text)))
    stored = results(appended)
    assert [each.offset for each in stored] == list(range(1, 101))
    assert [done.get(timeout=TIMEOUT_S) for _ in stored] == list(range(100))
    assert store.commits - before == 2  # of which one is `held_up`'s own
    assert everything(store) == stored


def test_nothing_is_known_before_the_commit(store: Store, ann: Account) -> None:
    seen: list[bool] = []

    def look(connection: Connection) -> None:
        seen.extend([appended.done(), appended.committed.done()])
        count = select(func.count()).select_from(messages)
        with store._engine.connect() as another:
            seen.append(another.execute(count).scalar_one() > 0)
        seen.append(connection.execute(count).scalar_one() > 0)

    with held_up(store):
        appended = store.append(ROOM, ann, "hello")
        looked = store.write(look)
    looked.result(TIMEOUT_S)
    assert seen == [False, False, False, True]


def test_one_that_cannot_be_stored_hurts_no_other(
    store: Store, ann: Account, caplog: pytest.LogCaptureFixture
) -> None:
    nobody = Account(10**6, "nobody")

    def fail(connection: Connection) -> None:
        raise ZeroDivisionError

    with held_up(store):
        good = [store.append(ROOM, ann, "1")]
        bad: list[Result[Any]] = [store.append(ROOM, nobody, "?"), store.write(fail)]
        good.append(store.append(ROOM, ann, "2"))
        bad += [store.append("absent", ann, "?"), store.edit(ROOM, 9, ann, "?")]
        good.append(store.append(ROOM, ann, "3"))
    assert [type(each.exception(TIMEOUT_S)) for each in bad] == [
        StoreError,
        StoreError,
        NotFoundError,
        NotFoundError,
    ]
    assert [each.offset for each in results(good)] == [1, 2, 3]
    assert [each.text for each in everything(store)] == ["1", "2", "3"]
    assert [record.exc_info is not None for record in caplog.records if record.levelname == "ERROR"]


def test_two_nodes_give_each_offset_once_and_know_each_others_messages(
    new_store: NewStore,
) -> None:
    nodes = [new_store(), new_store()]
    ann = nodes[0].create_account("Ann", "hash").result(TIMEOUT_S)
    names = ["a", "b", "c"]
    for name in names:
        nodes[1].create_room(name).result(TIMEOUT_S)
    threads_each = 3
    appended: dict[int, list[Appended]] = {}

    def talk(index: int) -> None:
        node = nodes[index % 2]
        order = names if index % 2 else names[::-1]
        appended[index] = [
            node.append(order[number % 3], ann, str(number), f"{index // 2}-{number}")
            for number in range(120)
        ]
        wait(appended[index], TIMEOUT_S)

    threads = [threading.Thread(target=talk, args=(index,)) for index in range(2 * threads_each)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # The two nodes were sent the same ids, of which each is stored once: by one of them.
    stored = {index: results(each) for index, each in appended.items()}
    for index in range(0, 2 * threads_each, 2):
        there = {each.client_id: each for each in stored[index + 1]}
        assert all(there[each.client_id] == each for each in stored[index])
    new = Counter(each.committed.done() for many in appended.values() for each in many)
    assert new == {True: 360, False: 360}
    total = 0
    for name in names:
        found = everything(nodes[0], name)
        assert [each.offset for each in found] == list(range(1, len(found) + 1))
        total += len(found)
    assert total == 360


def test_nothing_reads_whole_tables(tmp_path: Path) -> None:
    """What SQLite says of how it finds things, with as many as there may be in a transaction."""
    store = Store(sqlite_url(tmp_path))
    assert store.start(TIMEOUT_S)
    ann = store.create_account("Ann", "hash").result(TIMEOUT_S)
    store.create_room(ROOM).result(TIMEOUT_S)
    plans: list[str] = []

    def explain(connection: Connection, cursor: Any, statement: str, given: Any, *_: Any) -> None:
        if "SELECT" in statement and "alembic" not in statement:
            rows = cursor.execute(f"EXPLAIN QUERY PLAN {statement}", given).fetchall()
            plans.extend(row[-1] for row in rows)

    event.listen(store._engine, "before_cursor_execute", explain)
    with held_up(store):
        appended = [store.append(ROOM, ann, "hello", f"c{number}") for number in range(500)]
    results(appended)
    store.edit(ROOM, 1, ann, "hello!").result(TIMEOUT_S)
    store.history(ROOM, before=100).result(TIMEOUT_S)
    store.history(ROOM, after=100).result(TIMEOUT_S)
    assert any("SEARCH messages" in plan for plan in plans)
    tables = ("messages", "users", "restrictions", "rooms")
    assert not [plan for plan in plans if plan.startswith(tuple(f"SCAN {each}" for each in tables))]
    assert store.close()


def test_history_by_page_newest_first(store: Store, ann: Account) -> None:
    results([store.append(ROOM, ann, str(number)) for number in range(1, 11)])

    def page(**options: int) -> tuple[list[int], bool]:
        found = store.history(ROOM, **options).result(TIMEOUT_S)
        return [each.offset for each in found.messages], found.more

    assert page(limit=3) == ([10, 9, 8], True)
    assert page(before=8, limit=3) == ([7, 6, 5], True)
    assert page(before=4, limit=3) == ([3, 2, 1], False)
    assert page(before=1) == ([], False)
    assert page(after=0, limit=3) == ([3, 2, 1], True)
    assert page(after=7, limit=3) == ([10, 9, 8], False)
    assert page(after=10) == ([], False)
    assert page(after=2, before=9, limit=4) == ([8, 7, 6, 5], True)
    assert page(after=2, before=5) == ([4, 3], False)
    assert page(limit=0) == ([10], True)
    assert page(limit=10**9) == ([*range(10, 0, -1)], False)
    with pytest.raises(NotFoundError):
        store.history("absent").result(TIMEOUT_S)


def test_own_messages_may_be_changed(new_store: NewStore) -> None:
    times = iter(range(1000, 2000))
    store = new_store(clock=lambda: float(next(times)))
    ann = store.create_account("Ann", "hash").result(TIMEOUT_S)
    bob = store.create_account("Bob", "hash").result(TIMEOUT_S)
    store.create_room(ROOM).result(TIMEOUT_S)
    first = store.append(ROOM, ann, "helo").result(TIMEOUT_S)
    second = store.append(ROOM, ann, "rude").result(TIMEOUT_S)
    edited = store.edit(ROOM, 1, ann, "hello").result(TIMEOUT_S)
    assert edited.edited_at is not None
    assert edited == msgspec.structs.replace(first, text="hello", edited_at=edited.edited_at)
    assert edited.edited_at > first.created_at
    for refused in (store.edit(ROOM, 1, bob, "x"), store.delete(ROOM, 1, bob)):
        assert isinstance(refused.exception(TIMEOUT_S), NotAllowedError)
    deleted = store.delete(ROOM, 2, bob, any_sender=True).result(TIMEOUT_S)
    assert (deleted.text, deleted.offset, deleted.sender) == ("", second.offset, "Ann")
    assert everything(store) == [edited, deleted]
    for absent in (store.edit(ROOM, 2, ann, "x"), store.delete(ROOM, 2, ann)):
        assert isinstance(absent.exception(TIMEOUT_S), NotFoundError)
    assert store.append(ROOM, ann, "next").result(TIMEOUT_S).offset == 3


@pytest.mark.parametrize("text", ["", " \n", "x" * 4001, "a\0b", "\ud83d"])
def test_texts_that_are_none(store: Store, ann: Account, text: str) -> None:
    for call in (
        lambda: store.append(ROOM, ann, text),
        lambda: store.edit(ROOM, 1, ann, text),
        lambda: store.create_room(text),
        lambda: store.create_account(text, "hash"),
    ):
        with pytest.raises(InvalidError):
            call()


# -- rooms and accounts -------------------------------------------------------------------------


def test_rooms_have_names(store: Store, ann: Account) -> None:
    for name in ("b", "a"):
        store.create_room(name).result(TIMEOUT_S)
    assert isinstance(store.create_room("a").exception(TIMEOUT_S), TakenError)
    assert [room.name for room in store.list_rooms().result(TIMEOUT_S)] == ["a", "b", ROOM]
    assert [room.name for room in store.list_rooms(after="a", limit=1).result(TIMEOUT_S)] == ["b"]
    assert store.find_room("absent").result(TIMEOUT_S) is None


def test_accounts_have_names_that_can_be_told_apart(store: Store) -> None:
    ann = store.create_account(" Ann ", "hash").result(TIMEOUT_S)
    assert ann.name == "Ann"
    for name in ("ann", "ANN", "\uff21nn"):
        assert isinstance(store.create_account(name, "x").exception(TIMEOUT_S), TakenError)
        assert store.find_account(name).result(TIMEOUT_S) == (ann, "hash")
    assert store.find_account_by_id(ann.id).result(TIMEOUT_S) == ann
    assert store.find_account("Bob").result(TIMEOUT_S) is None
    assert store.find_account_by_id(ann.id + 1).result(TIMEOUT_S) is None
    store.set_password_hash(ann, "another").result(TIMEOUT_S)
    assert store.find_account("Ann").result(TIMEOUT_S) == (ann, "another")
    nobody = store.set_password_hash(Account(ann.id + 1, "x"), "x")
    assert isinstance(nobody.exception(TIMEOUT_S), NotFoundError)
    with pytest.raises(InvalidError):
        store.create_account("A\u202enn", "hash")


def test_a_name_is_given_once_whichever_node_is_asked(new_store: NewStore) -> None:
    nodes = [new_store(), new_store()]
    asked = [node.create_account(f"name{number}", "hash") for number in range(20) for node in nodes]
    outcomes = Counter(type(each.exception(TIMEOUT_S)) for each in asked)
    assert outcomes == {type(None): 20, TakenError: 20}


# -- bounds, the beginning and the end ----------------------------------------------------------


def test_too_much_is_refused_at_once(new_store: NewStore) -> None:
    store = new_store(waiting_max=5)
    ann = store.create_account("Ann", "hash").result(TIMEOUT_S)
    store.create_room(ROOM).result(TIMEOUT_S)
    with held_up(store):
        appended = [store.append(ROOM, ann, str(number)) for number in range(8)]
        assert [type(each.exception(0)) for each in appended[5:]] == [StoreBusyError] * 3
    assert [each.offset for each in results(appended[:5])] == [1, 2, 3, 4, 5]


def test_too_many_reads_are_refused_at_once(new_store: NewStore) -> None:
    store = new_store(waiting_max=2, readers=1)
    begun, go_on = threading.Event(), threading.Event()

    def hold(connection: Connection) -> None:
        begun.set()
        assert go_on.wait(TIMEOUT_S)

    held = store.read(hold)
    assert begun.wait(TIMEOUT_S)
    waiting = [store.list_rooms() for _ in range(3)]
    assert isinstance(waiting[2].exception(0), StoreBusyError)
    go_on.set()
    held.result(TIMEOUT_S)
    assert [each.result(TIMEOUT_S) for each in waiting[:2]] == [[], []]


def test_what_waits_when_it_is_closed_is_written(url: str) -> None:
    store = Store(url)
    assert store.start(TIMEOUT_S)
    ann = store.create_account("Ann", "hash").result(TIMEOUT_S)
    store.create_room(ROOM).result(TIMEOUT_S)
    appended = [store.append(ROOM, ann, str(number)) for number in range(50)]
    assert store.close(TIMEOUT_S)
    assert [each.result(0).offset for each in appended] == list(range(1, 51))
    assert isinstance(store.append(ROOM, ann, "late").exception(0), StoreAwayError)


def test_results_cannot_be_cancelled(store: Store, ann: Account) -> None:
    with held_up(store):
        appended = store.append(ROOM, ann, "hello")
        assert not appended.cancel()
    assert appended.result(TIMEOUT_S).offset == 1


def test_the_migrations_give_the_schema(store: Store, url: str) -> None:
    engine = new_engine(url)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()


def test_nodes_that_begin_together_do_not_disturb_each_other(url: str) -> None:
    nodes = [Store(url) for _ in range(4)]
    begun: dict[int, bool] = {}

    def begin(index: int) -> None:
        begun[index] = nodes[index].start(TIMEOUT_S)

    threads = [threading.Thread(target=begin, args=(index,)) for index in range(len(nodes))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert begun == dict.fromkeys(range(4), True)
    for number, node in enumerate(nodes):
        node.create_room(str(number)).result(TIMEOUT_S)
        assert len(node.list_rooms().result(TIMEOUT_S)) == number + 1
        assert node.close()


@pytest.mark.parametrize(
    "url",
    ["sqlite://", "sqlite:///:memory:", "mysql://host/chat", "chat.sqlite3", "oracle+x://a"],
)
def test_databases_that_cannot_work(url: str) -> None:
    with pytest.raises(ConfigurationError, match="DATABASE_URL"):
        Store(url)


# -- when the database is away ------------------------------------------------------------------


def recover(store: Store) -> None:
    """Wait until the database can be reached."""
    assert store._writer._ready.wait(TIMEOUT_S)


@contextmanager
def commit_interrupted(store: Store, *, committed: bool, others: int = 0) -> Iterator[None]:
    """The connection is lost in the next commit but `others`: after it has taken place, or
    before."""
    left = [None] * (1 + others)

    def interrupt(connection: Connection) -> None:
        if not connection.get_execution_options().get("writes") or not left:
            return
        left.pop()
        if left:
            return
        if committed and connection.dialect.name == "sqlite":
            connection.exec_driver_sql("COMMIT")
        elif committed:
            connection.connection.commit()
        else:
            connection.connection.rollback()
        raise OperationalError("COMMIT", None, Exception("the connection was lost"))

    event.listen(store._engine, "commit", interrupt)
    try:
        yield
    finally:
        event.remove(store._engine, "commit", interrupt)
    assert not left


@pytest.mark.parametrize("committed", [True, False])
def test_a_commit_whose_end_was_not_seen(store: Store, ann: Account, committed: bool) -> None:
    with commit_interrupted(store, committed=committed, others=1):
        with held_up(store):  # which is a commit of its own
            appended = [store.append(ROOM, ann, str(number), str(number)) for number in range(3)]
        for each in appended:
            assert isinstance(each.exception(TIMEOUT_S), StoreAwayError)
        recover(store)
    # What was stored is announced, though nobody was told that it was stored; in order.
    assert [each.committed.done() for each in appended] == [committed] * 3
    again = [store.append(ROOM, ann, str(number), str(number)) for number in range(3)]
    assert [each.offset for each in results(again)] == [1, 2, 3]
    assert [each.committed.done() for each in again] == [not committed] * 3
    if committed:
        assert [each.committed.result(0) for each in appended] == results(again)
    assert len(everything(store)) == 3


def test_a_commit_that_is_interrupted_loses_what_waits_too(store: Store, ann: Account) -> None:
    with commit_interrupted(store, committed=False):
        first = store.append(ROOM, ann, "1")
        assert isinstance(first.exception(TIMEOUT_S), StoreAwayError)
        recover(store)
    assert store.append(ROOM, ann, "2").result(TIMEOUT_S).offset == 1


def test_a_database_that_comes_later(tmp_path: Path) -> None:
    folder = tmp_path / "later"
    store = Store(sqlite_url(folder))
    assert not store.start(0.01)
    nobody = Account(1, "nobody")
    assert isinstance(store.append(ROOM, nobody, "hello").exception(0), StoreAwayError)
    assert isinstance(store.history(ROOM).exception(0), StoreAwayError)
    folder.mkdir()
    recover(store)
    store.create_room(ROOM).result(TIMEOUT_S)
    assert store.close()


def test_a_database_that_never_comes_does_not_hold_up_the_end(tmp_path: Path) -> None:
    store = Store(sqlite_url(tmp_path / "never"))
    assert not store.start(0.01)
    assert store.close(TIMEOUT_S)


def test_a_file_that_another_process_has_locked(tmp_path: Path) -> None:
    store = Store(sqlite_url(tmp_path) + "?timeout=0.05")
    assert store.start(TIMEOUT_S)
    ann = store.create_account("Ann", "hash").result(TIMEOUT_S)
    store.create_room(ROOM).result(TIMEOUT_S)
    other = sqlite3.connect(tmp_path / "chat.sqlite3", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert isinstance(store.append(ROOM, ann, "1").exception(TIMEOUT_S), StoreAwayError)
    assert not store.is_available
    other.execute("ROLLBACK")
    other.close()
    recover(store)
    assert store.append(ROOM, ann, "2").result(TIMEOUT_S).offset == 1
    assert store.close()


@pytest.mark.servers
@pytest.mark.parametrize("how", ["kill", "drop_connections"])
def test_postgresql_goes_and_comes_back(postgresql: PrivatePostgreSQL, how: str) -> None:
    """Whatever happens: what was acknowledged is stored once, and so is what is sent again until
    it is; and what is stored was announced, once, in its order."""
    store = Store(postgresql.new_database())
    assert store.start(TIMEOUT_S)
    ann = store.create_account("Ann", "hash").result(TIMEOUT_S)
    store.create_room(ROOM).result(TIMEOUT_S)
    announced: SimpleQueue[StoredMessage] = SimpleQueue()
    failed = threading.Event()
    enough = threading.Event()
    sent: dict[int, list[str]] = {}

    def talk(person: int) -> None:
        """Send one message after another, each again until it is acknowledged."""
        mine = sent[person] = []
        while not enough.is_set():
            client_id = f"{person}-{len(mine)}"
            while True:
                appended = store.append(ROOM, ann, client_id, client_id)
                appended.committed.add_done_callback(lambda done: announced.put(done.result()))
                try:
                    stored = appended.result(TIMEOUT_S)
                except StoreAwayError:
                    failed.set()
                    recover(store)
                    continue
                break
            assert stored.text == client_id
            mine.append(client_id)

    threads = [threading.Thread(target=talk, args=(person,)) for person in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        before = store.commits
        while store.commits < before + 20:
            store.list_rooms().exception(TIMEOUT_S)  # which takes a moment
        failed.clear()
        if how == "kill":
            postgresql.kill()
            assert failed.wait(TIMEOUT_S)
            assert not store.is_available
            assert isinstance(store.append(ROOM, ann, "?").exception(0), StoreAwayError)
            assert isinstance(store.history(ROOM).exception(0), StoreAwayError)
            postgresql.start()
        else:
            postgresql.drop_connections()
            assert failed.wait(TIMEOUT_S)
        recover(store)
    enough.set()
    for thread in threads:
        thread.join(TIMEOUT_S)
    found = everything(store)
    assert [each.offset for each in found] == list(range(1, len(found) + 1))
    assert Counter(each.client_id for each in found) == Counter(
        each for mine in sent.values() for each in mine
    )
    assert [announced.get(timeout=TIMEOUT_S) for _ in found] == found
    assert announced.empty()
    assert store.close()


@pytest.mark.servers
def test_readers_that_find_it_away_say_so(postgresql: PrivatePostgreSQL) -> None:
    store = Store(postgresql.new_database())
    assert store.start(TIMEOUT_S)
    postgresql.kill()
    assert isinstance(store.list_rooms().exception(TIMEOUT_S), StoreAwayError)
    with store._writer._changed:
        assert store._writer._changed.wait_for(lambda: True)
    postgresql.start()
    recover(store)
    while True:
        try:
            assert store.list_rooms().result(TIMEOUT_S) == []
        except StoreAwayError:  # the reader was faster than the writer
            recover(store)
            continue
        break
    assert store.close()


def test_what_is_said_of_errors() -> None:
    assert is_away(OperationalError("SELECT 1", None, Exception("gone")))
    assert is_away(ConnectionRefusedError())
    assert not is_away(ValueError())


# -- from the transports ------------------------------------------------------------------------

TRANSPORTS: dict[str, Callable[[], Harness]] = {
    "asyncio": lambda: LoopHarness(AsyncioServer, run_asyncio),
    "uvloop": lambda: LoopHarness(AsyncioServer, run_uvloop),
    "anyio-asyncio": lambda: LoopHarness(AnyioServer, run_anyio_asyncio),
    "anyio-trio": lambda: LoopHarness(AnyioServer, run_anyio_trio),
    "blocking": BlockingHarness,
}


class Say(msgspec.Struct, tag_field="type", tag="say"):
    text: str
    client_id: str


class Ask(msgspec.Struct, tag_field="type", tag="ask"):
    """For how many messages there are."""


def chat(store: Store, accounts: dict[str, Account]) -> App:
    """A chat in one room, in as many lines as it takes."""
    app = App()
    app.provide(Store, lambda: store)
    module = app.module("/{name}")

    @module.on_handshake
    def who(request: Request) -> Accept:
        return Accept(user=accounts[request.path_params["name"]])

    @module.on_open
    def joined(session: Session) -> None:
        session.join(ROOM)

    @module.handler
    async def say(ctx: Context, data: Say, store: Store) -> dict[str, Any]:
        appended = store.append(ROOM, ctx.user, data.text, data.client_id)
        ctx.hub.completion(appended.committed).then(ctx.room(ROOM).broadcast)
        try:
            return {"type": "said", "offset": (await appended).offset}
        except StoreError as error:
            return {"type": "error", "code": error.code}

    @module.handler
    async def ask(ctx: Context, data: Ask, store: Store) -> int:
        page = await store.history(ROOM, limit=200)
        return len(page.messages)

    return app


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_handlers_of_every_transport_await_it(
    transport: str, store: Store, ann: Account, url: str
) -> None:
    people = {"ann": ann} | {
        name: store.create_account(name, "hash").result(TIMEOUT_S) for name in ("bob", "eve")
    }
    count = 40
    harness = TRANSPORTS[transport]()
    address = harness.start(chat(store, people), Options())
    clients = {name: Client.connect(address).handshake(f"/{name}") for name in people}
    try:
        for name, client in clients.items():
            said = [Say(f"{name} {number}", f"{number}") for number in range(count)]
            client.send(*(msgspec.json.encode(each).decode() for each in said))
        for name, client in clients.items():
            heard = [0]
            replies: list[int] = []
            while len(heard) <= 3 * count or len(replies) < count:
                message = msgspec.json.decode(client.receive())
                if message.get("type") == "said":
                    # It was broadcast, to its sender too, before it was acknowledged.
                    assert message["offset"] <= heard[-1], name
                    replies.append(message["offset"])
                else:
                    heard.append(message["offset"])
            assert heard == list(range(3 * count + 1))
            assert replies == sorted(replies)
        clients["ann"].send('{"type":"ask"}', '{"type":"say","text":"again","client_id":"0"}')
        assert clients["ann"].receive() == str(3 * count)
        assert msgspec.json.decode(clients["ann"].receive())["type"] == "said"
        clients["ann"].send('{"type":"ask"}')
        assert clients["ann"].receive() == str(3 * count)  # and nothing was broadcast again
    finally:
        for client in clients.values():
            client.drop()
        harness.stop()
    assert PATIENCE_S > 0


def test_rooms_and_messages_are_related(store: Store, ann: Account) -> None:
    """A message of no room, or of nobody, is impossible whatever the code does."""

    def insert(connection: Connection) -> None:
        row = {"offset": 1, "sender_id": ann.id, "client_id": "x", "text": "x", "created_at": 0.0}
        connection.execute(messages.insert(), {**row, "room_id": 10**6})

    assert isinstance(store.write(insert).exception(TIMEOUT_S), StoreError)
    count = select(func.count()).select_from(rooms)
    assert store.read(lambda connection: connection.execute(count).scalar_one()).result() == 1
