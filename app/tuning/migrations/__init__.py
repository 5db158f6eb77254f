"""The schema's history, and the one function that brings a database to its newest version."""

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, inspect, text

if TYPE_CHECKING:
    from alembic.config import Config

HERE = Path(__file__).parent
LOCK = 0x74756E65  # any number that nobody else takes: "tune"


def migrate(engine: Engine) -> None:
    """Bring the database to the newest schema, in one transaction that only one process at a time can be in."""
    with engine.connect() as connection:
        if _revision(connection) == newest():
            return
    with engine.execution_options(writes=True).begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        if _revision(connection) != newest():
            from alembic import command  # 14 MB, which a process that finds the newest schema can do without

            command.upgrade(configuration(connection), "head")


def newest() -> str:
    """The revision that this version of the code needs: the last file's, since they are numbered."""
    return max(file.name for file in (HERE / "versions").glob("[0-9]*.py")).partition("_")[0]


def configuration(connection: Connection) -> "Config":
    """Alembic's configuration for these migrations on this connection."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(HERE))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
