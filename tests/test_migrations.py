"""Migrations run once however many processes start at once, and end where the tables are."""

import os
import signal
import subprocess
import sys
import time
from multiprocessing.context import ForkServerProcess
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, event, inspect, select, text

from app.tuning import claims
from app.tuning.database import connect, reading
from app.tuning.migrations import configuration, migrate, newest
from app.tuning.tables import EpochRow, Table
from tests.ledger import Ledger, grid
from tests.racing import CONTEXT

ROOT = Path(__file__).parent.parent


def difference(engine: Engine) -> list[object]:
    """What Alembic would still change."""
    with engine.connect() as connection:
        return list(compare_metadata(MigrationContext.configure(connection), Table.metadata))


def at_revision(url: str, revision: str) -> Engine:
    """A database on an older schema."""
    engine = connect(url)
    with engine.execution_options(writes=True).begin() as connection:
        command.upgrade(configuration(connection), revision)
    return engine


def test_the_migrated_schema_is_that_of_the_tables(engine: Engine) -> None:
    assert difference(engine) == []
    assert "jobs" in inspect(engine).get_table_names()


def test_migrating_again_changes_nothing(engine: Engine) -> None:
    migrate(engine)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).all() == [(newest(),)]


@pytest.mark.parametrize("revision", ["0001", None], ids=["from the first", "from nothing"])
def test_each_step_can_be_taken_alone(database_url: str, revision: str | None) -> None:
    engine = at_revision(database_url, revision) if revision else connect(database_url)
    migrate(engine)
    assert difference(engine) == []
    engine.dispose()


def test_what_was_recorded_before_is_there_afterwards(database_url: str) -> None:
    ledger = Ledger(at_revision(database_url, "0002"))
    job_id = ledger.post(grid(2))
    hold = ledger.claim(job_id)
    epoch = {"epoch": 1, "loss": 0.25, "accuracy": 0.5, "val_loss": None, "val_accuracy": None, "seconds": 0.1}
    assert ledger.do(claims.renew, hold, 15.0, [epoch])
    before = [fit.id for fit in ledger.fits(job_id)]
    migrate(ledger.engine)
    ledger.audit()
    assert [fit.id for fit in ledger.fits(job_id)] == before
    assert [attempt.worker for attempt in ledger.attempts(hold.fit_id)] == ["w1"]
    with reading(ledger.engine) as session:
        assert session.scalars(select(EpochRow.loss)).all() == [0.25]
    ledger.engine.dispose()


def test_the_command_migrates_the_database_of_the_settings(tmp_path: Path) -> None:
    home = tmp_path / "home"
    environment = {**os.environ, "TUNEWELL_HOME": str(home), "TUNEWELL_DATABASE_URL": ""}
    command = [sys.executable, "-m", "app.tuning.migrations"]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=100)
    made = connect(f"sqlite:///{home / 'tunewell.db'}")
    assert difference(made) == []
    made.dispose()


@pytest.mark.parametrize("revision", [None, "0001"], ids=["empty", "older"])
def test_eight_processes_that_start_at_once_all_reach_the_newest_schema(
    database_url: str, revision: str | None
) -> None:
    if revision:
        at_revision(database_url, revision).dispose()
    starters = [CONTEXT.Process(target=start, args=(database_url,)) for _ in range(8)]
    for process in starters:
        process.start()
    assert_all_arrive(starters, database_url)


@pytest.mark.parametrize("revision", [None, "0001"], ids=["empty", "older"])
def test_a_starter_that_is_killed_in_the_middle_leaves_the_others_a_clean_slate(
    database_url: str, revision: str | None
) -> None:
    if revision:
        at_revision(database_url, revision).dispose()
    in_the_middle = CONTEXT.Event()
    victim = CONTEXT.Process(target=start, args=(database_url, in_the_middle))
    victim.start()
    assert in_the_middle.wait(60)
    starters = [CONTEXT.Process(target=start, args=(database_url,)) for _ in range(7)]
    for process in starters:
        process.start()
    victim.kill()
    assert_all_arrive(starters, database_url)
    victim.join()
    assert victim.exitcode == -signal.SIGKILL


def start(url: str, in_the_middle: Event | None = None) -> None:
    """Start as API and workers do; a victim stays in the middle until it is killed."""
    engine = connect(url)

    def stay(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if in_the_middle and "CREATE TABLE idempotency_keys" in statement:
            in_the_middle.set()
            time.sleep(600)

    event.listen(engine, "before_cursor_execute", stay)
    migrate(engine)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one() == newest()


def assert_all_arrive(starters: list[ForkServerProcess], url: str) -> None:
    for process in starters:
        process.join(100)
    assert [process.exitcode for process in starters] == [0] * len(starters)
    migrated = connect(url)
    assert difference(migrated) == []
    migrated.dispose()
