"""Fixtures that every seam shares: an empty database of each kind, and the service in front of it."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, text

from app.main import create_app
from app.tuning.database import connect
from app.tuning.housekeeping import Housekeeper
from app.tuning.jobs.tables import Table
from app.tuning.migrations import migrate
from app.tuning.settings import settings
from tests.support import servers
from tests.support.service_double import SPEC, Service, running_service

SYSTEM = Path(__file__).parent / "system"
# Run first: started last, one of these files would leave the other processes idle.
LONGEST = {"system", "worker", "training", "page", "store"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of whole systems, and those that need PostgreSQL or a broker; the longest files are run first."""
    for item in items:
        if SYSTEM in item.path.parents or (isinstance(item, pytest.Function) and _needs_server(item)):
            item.add_marker(pytest.mark.system)
    items.sort(key=lambda item: item.path.parent.name not in LONGEST)


def _needs_server(item: pytest.Function) -> bool:
    parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
    on_postgres = any(isinstance(one, str) and one == "postgresql" for one in parameters)  # others may be arrays
    return on_postgres or bool({"postgres", "broker"} & set(item.fixturenames))


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


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file on the newest schema, to be copied: migrating anew would cost each test more than its own work."""
    file = tmp_path_factory.mktemp("migrated") / "tunewell.db"
    _migrated(f"sqlite:///{file}")
    return file


@pytest.fixture(scope="session")
def migrated_postgres(postgres: servers.Postgres) -> str:
    """The URL of a database on the newest schema, to be emptied before each test."""
    return _migrated(postgres.new_database())


def _migrated(url: str) -> str:
    made = connect(url)
    migrate(made)
    made.dispose()
    return url


@pytest.fixture
def sqlite_engine(tmp_path: Path, migrated_sqlite: Path) -> Iterator[Engine]:
    """An empty database on the newest schema, where one kind is enough."""
    made = connect(f"sqlite:///{shutil.copy(migrated_sqlite, tmp_path)}")
    yield made
    made.dispose()


@pytest.fixture
def postgres_engine(migrated_postgres: str) -> Iterator[Engine]:
    """An empty database on the newest schema, of a server's kind."""
    made = connect(migrated_postgres)
    with made.begin() as connection:
        tables = ", ".join(table.name for table in Table.metadata.sorted_tables)
        connection.execute(text(f"TRUNCATE {tables} RESTART IDENTITY"))
    yield made
    made.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest) -> Engine:
    """An empty database on the newest schema, of each kind in turn."""
    name = "sqlite_engine" if request.param == "sqlite" else "postgres_engine"
    found: Engine = request.getfixturevalue(name)
    return found


class IdleHousekeeper(Housekeeper):
    """Does no chores; it counts how often it was told of new work."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.nudges = 0

    def nudge(self) -> None:
        self.nudges += 1

    def start(self) -> None:
        """There is no thread to start."""

    def lives(self) -> bool:
        return True

    def stop(self) -> None:
        """There is no thread to stop."""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of the test's own, in which uploads and the storage are."""
    folder = tmp_path / "home"
    monkeypatch.setenv("TUNEWELL_HOME", str(folder))
    settings.cache_clear()
    return folder


@pytest.fixture
def client(engine: Engine, home: Path) -> Iterator[TestClient]:
    """The service on each kind of database, without a broker: what would be woken is counted."""
    with TestClient(create_app(engine, IdleHousekeeper), raise_server_exceptions=False) as made:
        yield made


@pytest.fixture
def sqlite_client(sqlite_engine: Engine, home: Path) -> Iterator[TestClient]:
    """The service where one kind of database is enough."""
    with TestClient(create_app(sqlite_engine, IdleHousekeeper), raise_server_exceptions=False) as made:
        yield made


@pytest.fixture(autouse=True)
def _fresh_settings() -> Iterator[None]:
    """What one test sets in the environment is not what the next one reads."""
    yield
    settings.cache_clear()


@pytest.fixture
def service() -> Iterator[Service]:
    """A server that stands in for a service, for the command line to talk to."""
    with running_service() as double:
        yield double


@pytest.fixture
def spec_file(tmp_path: Path) -> str:
    """A file with a job."""
    file = tmp_path / "job.json"
    file.write_text(json.dumps(SPEC))
    return str(file)
