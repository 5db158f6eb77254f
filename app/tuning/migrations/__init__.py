"""The schema's history, and what brings a database to its newest version."""

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, inspect, text

if TYPE_CHECKING:
    from alembic.config import Config

HERE = Path(__file__).parent
LOCK = 0x74756E65  # any number that nobody else takes: "tune"


def migrate(engine: Engine) -> None:
    """Bring the database to the newest schema, in one transaction that only one process at a time can be in."""
    if _is_newest(engine):
        return
    with engine.execution_options(writes=True).connect() as connection:
        _let_tables_be_replaced(connection)
        with connection.begin():
            if connection.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
            if _revision(connection) != newest():
                from alembic import command  # which a process that finds the newest schema can do without

                command.upgrade(configuration(connection), "head")


def migrate_apart(engine: Engine) -> None:
    """`migrate` in a process of its own, for one that lives long: Alembic would stay in its memory, with 10 MB."""
    if _is_newest(engine):
        return
    url = engine.url.render_as_string(hide_password=False)
    environment = os.environ | {"TUNEWELL_DATABASE_URL": url, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-m", __name__], env=environment, check=False)
    migrate(engine)  # which tells what was wrong, if anything was


def newest() -> str:
    """The revision that this version of the code needs: the last file's, since they are numbered."""
    return max(file.name for file in (HERE / "versions").glob("[0-9]*.py")).partition("_")[0]


def configuration(connection: Connection) -> "Config":
    """Alembic's configuration for these migrations on this connection."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(HERE).replace("%", "%%"))  # which begins a name to be put in
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def _let_tables_be_replaced(connection: Connection) -> None:
    """SQLite changes a table by making another; dropping the old one must not take along the rows that refer to it."""
    if connection.dialect.name == "sqlite":
        connection.detach()  # for this is set outside of any transaction, and for no other user of the connection
        driver: Any = connection.connection.dbapi_connection
        driver.execute("PRAGMA foreign_keys = OFF")


def _is_newest(engine: Engine) -> bool:
    with engine.connect() as connection:
        return _revision(connection) == newest()


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
