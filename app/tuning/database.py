"""Engines, transactions and the database's own clock, for SQLite and PostgreSQL alike."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session
from sqlalchemy.sql.functions import GenericFunction

from app.tuning import sessions
from app.tuning.jobs.tables import Utc
from app.tuning.outages import Standing, log_outages, raise_passing_as_unavailable
from app.tuning.search.stored import load_json

# Before it, several connections to one WAL could corrupt the file.
SAFE_WAL = (3, 51, 3)
# The driver says it with its BEGIN, so that it costs no round trip. "READ ONLY" there would be followed by "READ WRITE"
# in the connection's next transactions, and these would write to a server that is set to be read-only.
SNAPSHOT = {"isolation_level": "REPEATABLE READ"}
LOCK_SECONDS = 60.0  # how long SQLite waits for a lock, unless a transaction is to be more impatient
GLANCE_SECONDS = 0.5  # that a look at whether it can be written waits for a lock


class clock(GenericFunction[Any]):
    """Now, `seconds` later, by the database's clock: `clock(15)`."""

    type = Utc()
    inherit_cache = True


@compiles(clock, "sqlite")
def _sqlite_clock(element: clock, compiler: Any, **options: Any) -> str:
    seconds = compiler.process(element.clauses, **options)
    return f"strftime('%Y-%m-%d %H:%M:%f000', 'now', ({seconds}) || ' seconds')"


@compiles(clock, "postgresql")
def _postgresql_clock(element: clock, compiler: Any, **options: Any) -> str:
    return f"clock_timestamp() + make_interval(secs => {compiler.process(element.clauses, **options)})"


def connect(address: str | URL, connections: int = 40) -> Engine:
    """An engine whose transactions are explicit, and whose waits all have an end.

    It holds at most so many connections to PostgreSQL.
    """
    url = make_url(address)
    engine = _sqlite(url) if url.get_backend_name() == "sqlite" else _postgresql(url, connections)
    event.listen(engine, "handle_error", raise_passing_as_unavailable)
    return engine


def impatient(engine: Engine, seconds: float) -> Engine:
    """The same engine, for transactions that wait no longer than this for anybody's lock."""
    return engine.execution_options(patience=seconds)


def try_writing(engine: Engine) -> None:
    """Take a look at whether the database can be written, which changes nothing and waits for next to nothing.

    Raises:
        SQLAlchemyError: it cannot, or not just now.
    """
    with writing(impatient(engine, GLANCE_SECONDS)) as session:
        session.execute(text("DELETE FROM jobs WHERE 1 = 0"))
        if engine.dialect.name == "sqlite":
            version = session.scalar(text("PRAGMA user_version"))
            session.execute(text(f"PRAGMA user_version = {version}"))  # which needs a journal, as every change does
            session.rollback()


def _postgresql(url: URL, connections: int) -> Engine:
    engine = create_engine(
        url,
        json_deserializer=load_json,
        pool_pre_ping=True,
        pool_size=min(connections, 10),
        max_overflow=max(0, connections - 10),
        pool_timeout=10,
        connect_args={
            "client_encoding": "utf8",
            "connect_timeout": 3,
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 15_000,
        },
    )
    sessions.limit_sessions(engine)
    event.listen(engine, "begin", _limit_lock_waits)
    return engine


@contextmanager
def reading(engine: Engine) -> Iterator[Session]:
    """A transaction that only reads: all its statements see the database as the first one did."""
    options = SNAPSHOT if engine.dialect.name == "postgresql" else {}  # SQLite's transactions are so by themselves
    reads = engine.execution_options(**options)
    with log_outages(engine, Standing.AWAY), Session(reads, expire_on_commit=False) as session, session.begin():
        yield session


@contextmanager
def writing(engine: Engine) -> Iterator[Session]:
    """A transaction that writes: on SQLite it takes the write lock at once, so that it waits instead of failing."""
    writes = engine.execution_options(writes=True)
    with log_outages(engine, Standing.UNWRITABLE), Session(writes, expire_on_commit=False) as session, session.begin():
        yield session


def _sqlite(url: URL) -> Engine:
    file = url.database
    if file and file != ":memory:":
        Path(file).parent.mkdir(parents=True, exist_ok=True)
    waiting = {"isolation_level": None, "timeout": LOCK_SECONDS, "check_same_thread": False}
    engine = create_engine(url, json_deserializer=load_json, connect_args=waiting)
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)
    return engine


def _prepare(connection: sqlite3.Connection, _: Any) -> None:
    journal = "WAL" if sqlite3.sqlite_version_info >= SAFE_WAL else "DELETE"
    for pragma in (f"journal_mode = {journal}", "synchronous = FULL", "foreign_keys = ON", "cache_size = -500"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    options = connection.get_execution_options()
    patience, writes = options.get("patience", LOCK_SECONDS), options.get("writes", False)
    if connection.info.get("patience", LOCK_SECONDS) != patience:
        driver: Any = connection.connection.dbapi_connection
        driver.execute(f"PRAGMA busy_timeout = {patience * 1000:.0f}")
        connection.info["patience"] = patience
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _limit_lock_waits(connection: Connection) -> None:
    if patience := connection.get_execution_options().get("patience"):
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = {patience * 1000:.0f}")
