"""Backups: whole or not there, of what the database and the storage held, through kills."""

import os
import random
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import Engine, make_url, text

from app.tuning import storage
from app.tuning.backup import BackupError, back_up, restore
from app.tuning.database import connect, writing
from app.tuning.jobs import workers
from app.tuning.jobs.tables import Table
from app.tuning.migrations import migrate
from app.tuning.settings import settings
from tests.support.ledger import Ledger, grid

KEY = "models/0a1b/model.keras"


@pytest.fixture(autouse=True)
def _own_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TUNEWELL_HOME", str(tmp_path / "home"))
    settings.cache_clear()


@pytest.fixture
def filled(database_url: str, tmp_path: Path) -> Iterator[Engine]:
    """A database with a job that has been trained, and a stored file."""
    engine = connect(database_url)
    migrate(engine)
    ledger = Ledger(engine)
    ledger.train(ledger.post(grid(3)), lambda claim: 0.5, random.Random(0))
    store("one")
    yield engine
    engine.dispose()


def store(content: str) -> None:
    file = settings().home / "to-store"
    file.parent.mkdir(exist_ok=True)
    file.write_text(content)
    storage.put_file(KEY, file)


def stored() -> str:
    return b"".join(storage.open_file(KEY).pieces).decode()


def read(engine: Engine) -> dict[str, list[Any]]:
    """All rows of all tables."""
    with engine.connect() as connection:
        names = [table.name for table in Table.metadata.sorted_tables]
        return {name: sorted(map(repr, connection.execute(text(f"SELECT * FROM {name}")))) for name in names}


def test_a_backup_restores_rows_and_files(filled: Engine, tmp_path: Path) -> None:
    before, file = read(filled), tmp_path / "backup"
    made = back_up(filled.url, file)
    assert (made.kind, made.files) == (filled.dialect.name, 1)
    Ledger(filled).post(grid(2))
    store("two")
    with pytest.raises(BackupError, match="--replace"):
        restore(filled.url, file)
    assert restore(filled.url, file, replace=True) == made
    filled.dispose()
    assert read(filled) == before
    assert stored() == "one"
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith(".tunewell-backup")] == []


def test_a_backup_restores_into_an_empty_database(filled: Engine, tmp_path: Path, request: Any) -> None:
    before, file = read(filled), tmp_path / "backup"
    back_up(filled.url, file)
    if filled.dialect.name == "sqlite":
        empty = connect(f"sqlite:///{tmp_path / 'folder' / 'other.db'}")
    else:
        empty = connect(request.getfixturevalue("postgres").new_database())
    restore(empty.url, file)
    assert read(empty) == before
    empty.dispose()


def test_what_a_newer_schema_has_besides_is_gone_after_a_restore(filled: Engine, tmp_path: Path) -> None:
    back_up(filled.url, tmp_path / "backup")
    with filled.begin() as connection:
        connection.execute(text("CREATE TABLE later (id INTEGER)"))
    restore(filled.url, tmp_path / "backup", replace=True)
    filled.dispose()
    with filled.connect() as connection, pytest.raises(Exception, match="later"):
        connection.execute(text("SELECT * FROM later"))


def test_running_workers_are_in_the_way(filled: Engine, tmp_path: Path) -> None:
    back_up(filled.url, tmp_path / "backup")
    with writing(filled) as session:
        workers.note_presence(session, "w1")
    with pytest.raises(BackupError, match="stop them first"):
        restore(filled.url, tmp_path / "backup", replace=True)


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.9, 0.99])
def test_a_cut_file_changes_nothing(kept: float, sqlite_engine: Engine, tmp_path: Path) -> None:
    ledger = Ledger(sqlite_engine)
    ledger.post(grid(3))
    file, before = tmp_path / "backup", read(sqlite_engine)
    back_up(sqlite_engine.url, file)
    file.write_bytes(file.read_bytes()[: int(kept * file.stat().st_size)])
    with pytest.raises(BackupError, match="whole backup"):
        restore(sqlite_engine.url, file, replace=True)
    assert read(sqlite_engine) == before


def test_foreign_members_are_not_unpacked(sqlite_engine: Engine, tmp_path: Path) -> None:
    file, evil = tmp_path / "backup", tmp_path / "evil"
    back_up(sqlite_engine.url, file)
    with tarfile.open(file, "r:gz") as whole, tarfile.open(evil, "w:gz") as changed:
        for member in whole:
            changed.addfile(member, whole.extractfile(member))
        for name in ("../outside", "/tmp/outside", "storage/../../outside", "storage/a/../../b/c"):
            changed.addfile(tarfile.TarInfo(name))
    restore(sqlite_engine.url, evil, replace=True)
    assert not list(tmp_path.rglob("outside"))
    assert storage.list_files("") == []


def test_other_kinds_and_newer_schemas_are_rejected(
    sqlite_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "backup"
    back_up(sqlite_engine.url, file)
    with pytest.raises(BackupError, match="of sqlite and this database postgresql"):
        restore(make_url("postgresql+psycopg://host/name"), file)
    monkeypatch.setattr("app.tuning.backup.newest_revision", lambda: "0001")
    with pytest.raises(BackupError, match="newer Tunewell"):
        restore(sqlite_engine.url, file)


def test_without_a_database_there_is_nothing_to_back_up(tmp_path: Path) -> None:
    url = make_url(f"sqlite:///{tmp_path / 'none.db'}")
    with pytest.raises(BackupError, match="TUNEWELL_DATABASE_URL"):
        back_up(url, tmp_path / "backup")
    assert list(tmp_path.glob("*")) == []


@pytest.mark.slow
def test_kills_leave_whole_backups_and_whole_databases(filled: Engine, tmp_path: Path) -> None:
    first, then, file = read(filled), tmp_path / "first", tmp_path / "backup"
    back_up(filled.url, then)
    back_up(filled.url, file)
    Ledger(filled).post(grid(400))
    second = read(filled)
    filled.dispose()
    for number in range(6):
        kill(["backup", str(file)], filled, 0.4 + 0.2 * number)
        kill(["restore", str(then), "--replace"], filled, 0.4 + 0.2 * number)
        wait_for_tools()
        found = read(filled)
        assert found in (first, second)
        filled.dispose()
        restore(filled.url, file, replace=True)  # the old one or the new one, and whole
        assert read(filled) in (first, second)
        filled.dispose()


def kill(command: list[str], engine: Engine, after: float) -> None:
    """Start the command and kill it after so many seconds, unless it has ended."""
    url = engine.url.render_as_string(hide_password=False)
    environment = os.environ | {"TUNEWELL_DATABASE_URL": url, "TUNEWELL_HOME": str(settings().home)}
    process = subprocess.Popen([sys.executable, "-m", "app.cli", *command], env=environment, stdout=subprocess.DEVNULL)
    time.sleep(after)
    process.send_signal(signal.SIGKILL)
    process.wait()


def wait_for_tools() -> None:
    """PostgreSQL's tools that a killed process has left running."""
    tools = [one for one in psutil.process_iter(["name"]) if one.info["name"] in ("psql", "pg_restore")]
    psutil.wait_procs(tools, timeout=30)
