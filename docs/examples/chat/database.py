"""SQLite or PostgreSQL: how each is connected to, brought up to date, and found to be away."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from wireroom.core import ConfigurationError

MIGRATIONS: Final = Path(__file__).parent / "migrations"
DEFAULT_URL: Final = "sqlite:///chat.sqlite3"  # in the working directory

_WAIT_S: Final = 5  # for a lock, or for a statement, of others
_MIGRATION_LOCK: Final = 8_301_000_001  # of PostgreSQL's advisory locks


def new_engine(database_url: str | None) -> Engine:
    """Connections to SQLite or PostgreSQL; none is made yet.

    `postgres://` and `postgresql://` mean psycopg. None is a file in the working directory.
    Raises `ConfigurationError` for other databases, and for SQLite in memory, which is another
    database for each connection.
    """
    try:
        url = make_url(database_url or DEFAULT_URL)
    except (ArgumentError, ValueError) as error:
        raise ConfigurationError("DATABASE_URL", "must be the URL of a database") from error
    if url.drivername in ("postgres", "postgresql"):
        url = url.set(drivername="postgresql+psycopg")
    if url.drivername == "postgresql+psycopg":
        return _postgresql(url)
    if url.get_backend_name() != "sqlite":
        raise ConfigurationError("DATABASE_URL", "must be sqlite:///… or postgresql://…")
    if url.database in (None, "", ":memory:"):
        raise ConfigurationError("DATABASE_URL", "must name a file: sqlite:///chat.sqlite3")
    return _sqlite(url)


def _sqlite(url: Any) -> Engine:
    """With a write-ahead log, which lets others read during a commit, and on the disk when a
    commit is done."""
    arguments = {} if "timeout" in url.query else {"timeout": _WAIT_S}
    engine = create_engine(url, connect_args=arguments)

    @event.listens_for(engine, "connect")
    def connected(connection: Any, record: object) -> None:
        connection.isolation_level = None  # transactions are begun by us, below
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _postgresql(url: Any) -> Engine:
    """With bounds on how long a server that does not answer is waited for."""
    arguments = {
        "connect_timeout": _WAIT_S,
        "keepalives_idle": _WAIT_S,
        "keepalives_interval": 1,
        "keepalives_count": _WAIT_S,
        "tcp_user_timeout": 2000 * _WAIT_S,
    }
    engine = create_engine(
        url, connect_args={k: v for k, v in arguments.items() if k not in url.query}
    )

    @event.listens_for(engine, "connect")
    def connected(connection: Any, record: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"SET statement_timeout = '{2 * _WAIT_S}s'")
            cursor.execute(f"SET lock_timeout = '{_WAIT_S}s'")
            cursor.execute(f"SET idle_in_transaction_session_timeout = '{2 * _WAIT_S}s'")
        connection.commit()

    return engine


def migrate(connection: Connection) -> None:
    """Bring the tables up to date, in the connection's transaction; of several nodes that start at
    the same time, one does it."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:id)"), {"id": _MIGRATION_LOCK})
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def is_away(error: Exception) -> bool:
    """Whether the database, rather than what it was asked, is the problem."""
    return isinstance(error, OperationalError | InterfaceError | PoolTimeoutError | OSError) or (
        isinstance(error, DBAPIError) and error.connection_invalidated
    )


def is_conflict(error: Exception) -> bool:
    """Whether two transactions were in each other's way, and this one may be tried again."""
    state = getattr(getattr(error, "orig", None), "sqlstate", None)
    return isinstance(state, str) and state.startswith("40")  # serialization, deadlock
