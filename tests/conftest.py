"""Fixtures that every seam shares: an empty database of each kind, and the service in front of it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from app.main import create_app
from app.tuning.database import connect
from app.tuning.house import House
from app.tuning.migrations import migrate
from tests import servers


@pytest.fixture(scope="session")
def postgres() -> Iterator[servers.Postgres]:
    """A PostgreSQL server of the tests' own."""
    with servers.postgres() as server:
        yield server


@pytest.fixture(scope="session")
def broker() -> Iterator[servers.Broker]:
    """A Redis or Valkey server of the tests' own."""
    with servers.broker() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, of each kind in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'tunewell.db'}"
    server: servers.Postgres = request.getfixturevalue("postgres")
    return server.new_database()


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """A database on the newest schema, of each kind in turn."""
    made = connect(database_url)
    migrate(made)
    yield made
    made.dispose()


@pytest.fixture
def sqlite_engine(tmp_path: Path) -> Iterator[Engine]:
    """A database on the newest schema, where one kind is enough."""
    made = connect(f"sqlite:///{tmp_path / 'tunewell.db'}")
    migrate(made)
    yield made
    made.dispose()


class SilentHouse(House):
    """Keeps no house of itself; it counts how often it was told of new work."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.nudges = 0

    def nudge(self) -> None:
        self.nudges += 1

    def start(self) -> None:
        """There is no thread to start."""

    def stop(self) -> None:
        """There is no thread to stop."""


@pytest.fixture
def client(engine: Engine) -> Iterator[TestClient]:
    """The service on each kind of database, without a broker: what would be woken is counted."""
    with TestClient(create_app(engine, SilentHouse), raise_server_exceptions=False) as made:
        yield made


@pytest.fixture
def sqlite_client(sqlite_engine: Engine) -> Iterator[TestClient]:
    """The service where one kind of database is enough."""
    with TestClient(create_app(sqlite_engine, SilentHouse), raise_server_exceptions=False) as made:
        yield made
