"""Engines, transactions and the database's own clock, for SQLite and PostgreSQL alike."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session
from sqlalchemy.sql.functions import GenericFunction

from app.tuning import sessions
from app.tuning.stored import load
from app.tuning.tables import Utc

# What SQLAlchemy raises while a database cannot be reached, has no space, or keeps everybody waiting.
AWAY = (OperationalError, InterfaceError, PoolTimeout)
# Before it, several connections to one WAL could corrupt the file.
SAFE_WAL = (3, 51, 3)
# The driver says both with its BEGIN, so that they cost no round trip.
SNAPSHOT = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}


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
    if url.get_backend_name() == "sqlite":
        return _sqlite(url)
    engine = create_engine(
        url,
        json_deserializer=load,
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
    sessions.limit(engine)
    return engine


@contextmanager
def reading(engine: Engine) -> Iterator[Session]:
    """A transaction that only reads: all its statements see the database as the first one did."""
    options = SNAPSHOT if engine.dialect.name == "postgresql" else {}  # SQLite's transactions are so by themselves
    with Session(engine.execution_options(**options), expire_on_commit=False) as session, session.begin():
        yield session


@contextmanager
def writing(engine: Engine) -> Iterator[Session]:
    """A transaction that writes: on SQLite it takes the write lock at once, so that it waits instead of failing."""
    with Session(engine.execution_options(writes=True), expire_on_commit=False) as session, session.begin():
        yield session


def _sqlite(url: URL) -> Engine:
    file = url.database
    if file and file != ":memory:":
        Path(file).parent.mkdir(parents=True, exist_ok=True)
    waiting = {"isolation_level": None, "timeout": 60, "check_same_thread": False}
    engine = create_engine(url, json_deserializer=load, connect_args=waiting)
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)
    return engine


def _prepare(connection: sqlite3.Connection, _: Any) -> None:
    journal = "WAL" if sqlite3.sqlite_version_info >= SAFE_WAL else "DELETE"
    for pragma in (f"journal_mode = {journal}", "synchronous = FULL", "foreign_keys = ON", "cache_size = -500"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
