"""The schema's history, and what brings a database to its newest version."""

import logging
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from app.tuning import outages
from app.tuning.jobs.tables import Table

if TYPE_CHECKING:
    from alembic.config import Config

HERE = Path(__file__).parent
LOCK = 0x74756E65  # any number that nobody else takes: "tune"
VERSION_TABLE = "tunewell_version"
FORMER_VERSION_TABLE = "alembic_version"  # which other programs have too; a database that began with it keeps it
LOCK_SECONDS = 5  # whoever waits for a lock lets others pass after so long, and says that it waits
log = logging.getLogger("tunewell.migrations")


class UnusableDatabase(SQLAlchemyError):
    """The database is not this Tunewell's to change, in one sentence."""


def migrate(engine: Engine) -> None:
    """Bring the database to the newest schema, in one transaction that only one process at a time can be in.

    Raises:
        UnusableDatabase: it belongs to another program or to a newer Tunewell; nothing was changed.
    """
    told = False
    while True:
        try:
            return _migrate(engine)
        except DBAPIError as error:
            if not outages.is_locked(error):
                raise
            if not told:
                log.warning("migration waits for a lock", extra={"reason": outages.explain_failure(error)})
            told = True
            time.sleep(0.1)


def migrate_in_subprocess(engine: Engine) -> None:
    """`migrate` in a process of its own, for one that lives long: Alembic would stay in its memory, with 10 MB."""
    if "alembic.command" in sys.modules:
        return migrate(engine)
    with _connected(engine) as connection:
        if _revision(connection) == newest_revision():
            return
    url = engine.url.render_as_string(hide_password=False)
    environment = os.environ | {"TUNEWELL_DATABASE_URL": url, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-m", __name__], env=environment, check=False)
    migrate(engine)  # which tells what was wrong, if anything was


def find_revision(engine: Engine) -> str | None:
    """The schema's revision; None if there is none yet.

    Raises:
        UnusableDatabase: it is of a newer Tunewell.
    """
    with _connected(engine) as connection:
        return _revision(connection)


def newest_revision() -> str:
    """The revision that this version of the code needs: the last file's, since they are numbered."""
    return max(file.name for file in (HERE / "versions").glob("[0-9]*.py")).partition("_")[0]


def make_configuration(connection: Connection) -> "Config":
    """Alembic's configuration for these migrations on this connection."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(HERE).replace("%", "%%"))  # which begins a name to be put in
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    config.attributes["version_table"] = _version_table(connection)
    return config


def _migrate(engine: Engine) -> None:
    with _connected(engine) as connection:
        if _revision(connection) == newest_revision():
            return
    with _connected(engine, writes=True) as connection, connection.begin():
        if connection.dialect.name == "postgresql":
            connection.execute(text("SET LOCAL statement_timeout = 0"))  # large tables take their time
            connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        found = _revision(connection)
        if found is None:
            _see_that_names_are_free(connection)
        if found != newest_revision():
            from alembic import command  # which a process that finds the newest schema can do without

            command.upgrade(make_configuration(connection), "head")


@contextmanager
def _connected(engine: Engine, writes: bool = False) -> Iterator[Connection]:
    """A connection that waits for no lock for long, and whose tables can be replaced."""
    with engine.execution_options(writes=writes).connect() as connection:
        if connection.dialect.name == "sqlite":
            connection.detach()  # for this is set outside of any transaction, and for no other user of the connection
            driver: Any = connection.connection.dbapi_connection
            driver.execute(f"PRAGMA busy_timeout = {LOCK_SECONDS * 1000}")
            # SQLite changes a table by making another; dropping the old one must not take along what refers to it.
            driver.execute("PRAGMA foreign_keys = OFF")
        yield connection


def _revision(connection: Connection) -> str | None:
    """The schema's revision; None if there is none yet.

    Raises:
        UnusableDatabase: it is of a newer Tunewell.
    """
    table = _version_table(connection)
    if not inspect(connection).has_table(table):
        return None
    found: str | None = connection.execute(text(f"SELECT version_num FROM {table}")).scalar_one_or_none()
    if found and found > newest_revision():
        raise UnusableDatabase(
            f"The database is a newer Tunewell's (schema {found}, while this version knows {newest_revision()}); "
            "install that version, or name another database in TUNEWELL_DATABASE_URL. Nothing was changed."
        )
    return found


def _see_that_names_are_free(connection: Connection) -> None:
    """Within the transaction that nobody else migrates in: before it, the tables may just be coming."""
    if taken := sorted(Table.metadata.tables.keys() & set(inspect(connection).get_table_names())):
        raise UnusableDatabase(
            f"The database holds another program's tables by the names of Tunewell's ({', '.join(taken)}); "
            "give Tunewell a database of its own in TUNEWELL_DATABASE_URL. Nothing was changed."
        )


def _version_table(connection: Connection) -> str:
    """The table that holds the revision: the former one only where it is known for Tunewell's."""
    inspector = inspect(connection)
    if inspector.has_table(VERSION_TABLE) or not inspector.has_table(FORMER_VERSION_TABLE):
        return VERSION_TABLE
    revisions = connection.execute(text(f"SELECT version_num FROM {FORMER_VERSION_TABLE}")).scalars().all()
    if not all(re.fullmatch(r"\d{4}", revision) for revision in revisions) or not inspector.has_table("jobs"):
        return VERSION_TABLE
    columns = {column["name"] for column in inspector.get_columns("jobs")}
    return FORMER_VERSION_TABLE if {"spec", "trials_total", "fits_total"} <= columns else VERSION_TABLE
