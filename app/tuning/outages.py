"""What a database's failure means, and the log's one line when the database goes away and one when it is back."""

import logging
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum

from sqlalchemy import URL, Engine, ExceptionContext
from sqlalchemy.exc import DatabaseError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

# What SQLAlchemy raises while a database cannot be reached, has no space, or keeps everybody waiting.
AWAY = (OperationalError, InterfaceError, PoolTimeout)
# By SQLSTATE, so that a process on SQLite does not load PostgreSQL's driver.
# Passing conditions that psycopg does not report as an OperationalError: a read-only server, two session timeouts.
PASSING = ("25006", "25P03", "25P04")
# No such table, column or schema, or no privilege: the schema is not there yet, older than this code, or not ours.
UNPREPARED = ("42P01", "42703", "3F000", "42501")
# Lock not available, statement timeout, deadlock.
LOCKED = ("55P03", "57014", "40P01")
MAX_REASON_LENGTH = 300
log = logging.getLogger("tunewell.database")


def explain_failure(error: BaseException) -> str:
    """Why, in one line and in the server's own words where it has said anything; these never hold a password."""
    origin = error.orig if isinstance(error, DBAPIError) and error.orig else error
    first = str(origin).strip().partition("\n")[0]
    return first[:MAX_REASON_LENGTH] or type(origin).__name__


def is_unprepared(error: BaseException) -> bool:
    """Whether a statement failed because the database has not been prepared for it."""
    return _sqlstate(error) in UNPREPARED


def is_locked(error: BaseException) -> bool:
    """Whether a statement failed because somebody else held a lock for too long."""
    if isinstance(error, DBAPIError) and isinstance(error.orig, sqlite3.OperationalError):
        return error.orig.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
    return _sqlstate(error) in LOCKED


def _sqlstate(error: BaseException) -> str | None:
    return getattr(error.orig, "sqlstate", None) if isinstance(error, DBAPIError) else None


class Unavailable(OperationalError):
    """A passing condition of the server that its driver files under another kind of error."""


class Standing(Enum):
    """What the last transactions of this process have shown of a database."""

    WELL = "well"
    UNWRITABLE = "unwritable"
    AWAY = "away"


_standings: dict[URL, Standing] = {}
_changing = threading.Lock()  # so that of several threads only one logs


def database_standing(engine: Engine) -> Standing:
    """What the last transactions of this process have shown."""
    return _standings.get(engine.url, Standing.WELL)


@contextmanager
def log_outages(engine: Engine, failed: Standing) -> Iterator[None]:
    """Log once that a database is away, and once that it is back, however many transactions fail meanwhile."""
    try:
        yield
    except AWAY as error:
        # That an impatient transaction did not get a lock shows only that somebody else writes.
        if not (is_locked(error) and "patience" in engine.get_execution_options()):
            with _changing:
                was = database_standing(engine)
                if was is not Standing.AWAY:
                    _standings[engine.url] = failed
            if was is Standing.WELL:
                log.warning("database away", extra={"reason": explain_failure(error)})
        raise
    # A server that can be read may still be read-only.
    if database_standing(engine) in (Standing.AWAY, failed) and _standings.pop(engine.url, None) is not None:
        log.warning("database back")


def raise_passing_as_unavailable(context: ExceptionContext) -> None:
    """Of the engine's `handle_error`: what is only a passing condition is raised as one."""
    error, orig = context.sqlalchemy_exception, context.original_exception
    if not isinstance(error, DBAPIError) or isinstance(error, AWAY):
        return
    state = getattr(orig, "sqlstate", "")  # None where the server could not even say what is wrong
    speechless = state is None and type(error) is DatabaseError
    if context.is_disconnect or speechless or state in PASSING or is_unprepared(error):
        raise Unavailable(error.statement, error.params, orig, error.hide_parameters, context.is_disconnect)
