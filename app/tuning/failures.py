"""What a database's failure means: whether it may pass, and its reason in one line."""

import sqlite3

import psycopg
from psycopg import errors
from sqlalchemy.exc import DBAPIError

MOST_REASON = 300  # characters
# The schema is not there yet, or older than this code, or was kept from this role.
UNREADY = (errors.UndefinedTable, errors.UndefinedColumn, errors.InsufficientPrivilege, errors.InvalidSchemaName)
LOCKED = (errors.LockNotAvailable, errors.QueryCanceled, errors.DeadlockDetected)


def reason(error: BaseException) -> str:
    """Why, in one line and in the server's own words where it has said anything; these never hold a password."""
    origin = error.orig if isinstance(error, DBAPIError) and error.orig else error
    first = str(origin).strip().partition("\n")[0]
    return first[:MOST_REASON] or type(origin).__name__


def unready(error: BaseException) -> bool:
    """Whether a statement failed because the database has not been prepared for it."""
    return isinstance(error, DBAPIError) and isinstance(error.orig, UNREADY)


def locked(error: BaseException) -> bool:
    """Whether a statement failed because somebody else held a lock for too long."""
    if not isinstance(error, DBAPIError):
        return False
    if isinstance(error.orig, sqlite3.OperationalError):
        return error.orig.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
    return isinstance(error.orig, psycopg.Error) and isinstance(error.orig, LOCKED)
