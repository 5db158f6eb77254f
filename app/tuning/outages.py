"""What a database that is away looks like, and the log's one line when it goes and one when it is back."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum

from sqlalchemy import URL, Engine, ExceptionContext
from sqlalchemy.exc import DatabaseError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app.tuning import failures

# What SQLAlchemy raises while a database cannot be reached, has no space, or keeps everybody waiting.
AWAY = (OperationalError, InterfaceError, PoolTimeout)
# SQLSTATEs of passing conditions that psycopg does not report as an OperationalError: the server is read-only, and
# two timeouts that end a session.
PASSING = ("25006", "25P03", "25P04")
log = logging.getLogger("tunewell.database")


class Unavailable(OperationalError):
    """A passing condition of the server that its driver files under another kind of error."""


class Standing(Enum):
    """What the last transactions of this process have shown of a database."""

    WELL = "well"
    UNWRITABLE = "unwritable"
    AWAY = "away"


_standings: dict[URL, Standing] = {}


def standing(engine: Engine) -> Standing:
    """What the last transactions of this process have shown."""
    return _standings.get(engine.url, Standing.WELL)


@contextmanager
def noticing(engine: Engine, failed: Standing) -> Iterator[None]:
    """Log once that a database is away, and once that it is back, however many transactions fail meanwhile."""
    try:
        yield
    except AWAY as error:
        # That an impatient transaction did not get a lock shows only that somebody else writes.
        if not (failures.locked(error) and "patience" in engine.get_execution_options()):
            if standing(engine) is Standing.WELL:
                log.warning("database away", extra={"reason": failures.reason(error)})
            if standing(engine) is not Standing.AWAY:
                _standings[engine.url] = failed
        raise
    # A server that can be read may still be read-only.
    if standing(engine) in (Standing.AWAY, failed):
        _standings.pop(engine.url, None)
        log.warning("database back")


def name_what_passes(context: ExceptionContext) -> None:
    """Of the engine's `handle_error`: what is only a passing condition is raised as one."""
    error, orig = context.sqlalchemy_exception, context.original_exception
    if not isinstance(error, DBAPIError) or isinstance(error, AWAY):
        return
    state = getattr(orig, "sqlstate", "")  # None where the server could not even say what is wrong
    speechless = state is None and type(error) is DatabaseError
    if context.is_disconnect or speechless or state in PASSING or failures.unready(error):
        raise Unavailable(error.statement, error.params, orig, error.hide_parameters, context.is_disconnect)
