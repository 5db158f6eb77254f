"""Migrations run once however many processes start together, and produce the schema of the tables."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.context import ForkServerProcess
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, MetaData, column, event, insert, inspect, select, text
from sqlalchemy import table as lightweight_table

from app.tuning import migrations
from app.tuning.database import connect, reading
from app.tuning.jobs import claims
from app.tuning.jobs.tables import EpochRow, Table
from app.tuning.migrations import VERSION_TABLE, UnusableDatabase, make_configuration, migrate, newest_revision
from tests.local.test_launcher import wait_until
from tests.support.ledger import Ledger, grid
from tests.support.racing import CONTEXT

ROOT = Path(__file__).parents[2]


def difference(engine: Engine) -> list[object]:
    """The differences that Alembic finds between schema and tables."""
    with engine.connect() as connection:
        return list(
            compare_metadata(
                MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE}), Table.metadata
            )
        )


def at_revision(url: str, revision: str) -> Engine:
    """A database on an older schema."""
    engine = connect(url)
    with engine.execution_options(writes=True).begin() as connection:
        command.upgrade(make_configuration(connection), revision)
    return engine


def test_the_migrated_schema_is_that_of_the_tables(engine: Engine) -> None:
    assert difference(engine) == []
    assert "jobs" in inspect(engine).get_table_names()


def test_migrating_again_changes_nothing(engine: Engine) -> None:
    migrate(engine)
    with engine.connect() as connection:
        assert connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).all() == [(newest_revision(),)]


@pytest.mark.parametrize("revision", ["0001", None], ids=["from the first", "from nothing"])
def test_each_migration_runs_on_its_own(database_url: str, revision: str | None) -> None:
    engine = at_revision(database_url, revision) if revision else connect(database_url)
    migrate(engine)
    assert difference(engine) == []
    engine.dispose()


def copy(source: Engine, target: Engine) -> None:
    """Copy all rows into a database with an older schema, without the columns that it lacks."""
    older = MetaData()
    older.reflect(target)
    with source.connect() as given, target.execution_options(writes=True).begin() as taken:
        for place in older.sorted_tables:
            if (table := Table.metadata.tables.get(place.name)) is not None:
                columns = [table.c[column.name] for column in place.columns if column.name in table.c]
                if rows := given.execute(select(*columns)).mappings().all():
                    older_table = lightweight_table(place.name, *(column(c.name, c.type) for c in columns))
                    taken.execute(insert(older_table), [dict(row) for row in rows])


@pytest.fixture
def written(tmp_path: Path) -> Iterator[Ledger]:
    """A database on the newest schema, whose rows are copied into older ones."""
    engine = connect(f"sqlite:///{tmp_path / 'written.db'}")
    migrate(engine)
    yield Ledger(engine)
    engine.dispose()


@pytest.mark.parametrize("revision", ["0002", "0004"])
def test_migrations_keep_what_was_recorded(database_url: str, written: Ledger, revision: str) -> None:
    job_id = written.post(grid(2))
    hold = written.claim(job_id)
    epoch = {"epoch": 1, "loss": 0.25, "accuracy": 0.5, "val_loss": None, "val_accuracy": None, "seconds": 0.1}
    assert written.do(claims.renew, hold, 15.0, [epoch])
    ledger = Ledger(at_revision(database_url, revision))
    copy(written.engine, ledger.engine)
    migrate(ledger.engine)
    ledger.audit()
    assert [fit.id for fit in ledger.fits(job_id)] == [fit.id for fit in written.fits(job_id)]
    assert [attempt.worker for attempt in ledger.attempts(hold.fit_id)] == ["w1"]
    assert ledger.job(job_id).dataset == "digits"
    with reading(ledger.engine) as session:
        assert session.scalars(select(EpochRow.loss)).all() == [0.25]
    ledger.engine.dispose()


@pytest.mark.parametrize("revision", ["0006", "0008"])
def test_scores_of_older_jobs_are_their_accuracies(database_url: str, written: Ledger, revision: str) -> None:
    job_id = written.post(grid(2))
    written.finish_search(job_id, lambda number, fold: 0.5 + number / 4 + fold / 64)
    ledger = Ledger(at_revision(database_url, revision))
    copy(written.engine, ledger.engine)
    migrate(ledger.engine)
    found = [(one.validation_score, one.validation_score_std) for one in ledger.trials(job_id)]
    assert found == [(one.validation_accuracy, one.validation_accuracy_std) for one in written.trials(job_id)]
    assert ledger.job(job_id).best_score == found[1][0] == 0.75 + 1 / 64
    assert [fit.score for fit in ledger.fits(job_id)] == [fit.accuracy for fit in written.fits(job_id)]
    ledger.engine.dispose()


@pytest.mark.parametrize("spec", ["null", "[]", "{}", '{"dataset": 1}', '{"dataset": {"name": null}}'])
def test_jobs_with_any_stored_spec_are_migrated(database_url: str, written: Ledger, spec: str) -> None:
    job_id = written.post(grid(1))
    ledger = Ledger(at_revision(database_url, "0004"))
    copy(written.engine, ledger.engine)
    with ledger.engine.execution_options(writes=True).begin() as connection:
        connection.execute(text("UPDATE jobs SET spec = :spec"), {"spec": spec})
    migrate(ledger.engine)
    assert ledger.job(job_id).dataset in ("", "1")
    ledger.engine.dispose()


def began_with_alembic_s_table(url: str, revision: str) -> Engine:
    """A database made before Tunewell had its own version table."""
    engine = at_revision(url, revision)
    with engine.execution_options(writes=True).begin() as connection:
        connection.execute(text(f"ALTER TABLE {VERSION_TABLE} RENAME TO alembic_version"))
    return engine


def tables(engine: Engine) -> set[str]:
    with engine.connect() as connection:
        return set(inspect(connection).get_table_names())


def test_a_database_that_began_with_alembic_s_own_table_keeps_it(database_url: str) -> None:
    engine = began_with_alembic_s_table(database_url, "0002")
    migrate(engine)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).all() == [(newest_revision(),)]
    assert tables(engine) == {"alembic_version", *Table.metadata.tables}
    engine.dispose()


def test_another_program_s_versions_are_left_alone(database_url: str) -> None:
    engine = connect(database_url)
    with engine.execution_options(writes=True).begin() as connection:
        connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)"))
        connection.execute(text("INSERT INTO alembic_version VALUES ('0003')"))
        connection.execute(text("CREATE TABLE experiments (id INTEGER)"))
    migrate(engine)
    assert tables(engine) == {"alembic_version", "experiments", VERSION_TABLE, *Table.metadata.tables}
    with engine.connect() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).all() == [("0003",)]
    engine.dispose()


@pytest.mark.parametrize("names", [["alembic_version", "studies", "trials"], ["jobs"]])
def test_a_database_with_another_program_s_tables_is_not_touched(database_url: str, names: list[str]) -> None:
    engine = connect(database_url)
    with engine.execution_options(writes=True).begin() as connection:
        for name in names:
            connection.execute(text(f"CREATE TABLE {name} (version_num VARCHAR(32))"))
    with pytest.raises(UnusableDatabase, match=f"another program's tables.*{names[-1]}"):
        migrate(engine)
    assert tables(engine) == set(names)
    engine.dispose()


@pytest.mark.parametrize("make", [at_revision, began_with_alembic_s_table])
def test_a_newer_tunewell_s_database_is_not_touched(database_url: str, make: Callable[[str, str], Engine]) -> None:
    engine = make(database_url, "0001")
    before = tables(engine)
    with engine.execution_options(writes=True).begin() as connection:
        connection.execute(text(f"UPDATE {(before - {*Table.metadata.tables}).pop()} SET version_num = '9999'"))
    with pytest.raises(UnusableDatabase, match="newer"):
        migrate(engine)
    assert tables(engine) == before
    engine.dispose()


def test_a_migration_waits_for_a_lock(
    database_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(migrations, "LOCK_SECONDS", 1)
    engine = at_revision(database_url, "0001")
    waiter = threading.Thread(target=migrate, args=(engine,))
    with engine.execution_options(writes=True).begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("LOCK TABLE fits IN ACCESS SHARE MODE"))
        waiter.start()
        wait_until(lambda: "migration waits for a lock" in caplog.messages, 60)
        time.sleep(2.5)
        assert waiter.is_alive()
    waiter.join(60)
    assert caplog.messages.count("migration waits for a lock") == 1
    assert difference(engine) == []
    engine.dispose()


def test_the_command_migrates_the_database_of_the_settings(tmp_path: Path) -> None:
    home = tmp_path / "home"
    environment = {**os.environ, "TUNEWELL_HOME": str(home), "TUNEWELL_DATABASE_URL": ""}
    command = [sys.executable, "-m", "app.tuning.migrations"]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=100)
    made = connect(f"sqlite:///{home / 'tunewell.db'}")
    assert difference(made) == []
    made.dispose()


@pytest.mark.slow
@pytest.mark.parametrize("revision", [None, "0001"], ids=["empty", "older"])
def test_eight_processes_that_start_together_all_reach_the_newest_schema(
    database_url: str, revision: str | None
) -> None:
    if revision:
        at_revision(database_url, revision).dispose()
    starters = [CONTEXT.Process(target=start, args=(database_url,)) for _ in range(8)]
    for process in starters:
        process.start()
    assert_all_arrive(starters, database_url)


@pytest.mark.slow
@pytest.mark.parametrize("revision", [None, "0001"], ids=["empty", "older"])
def test_other_processes_migrate_after_one_was_killed_during_its_migration(
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
    """Start as API and workers do; a victim stops during its migration until it is killed."""
    engine = connect(url)

    def stay(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if in_the_middle and "CREATE TABLE idempotency_keys" in statement:
            in_the_middle.set()
            time.sleep(600)

    event.listen(engine, "before_cursor_execute", stay)
    migrate(engine)
    with engine.connect() as connection:
        assert connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar_one() == newest_revision()


def assert_all_arrive(starters: list[ForkServerProcess], url: str) -> None:
    for process in starters:
        process.join(100)
    assert [process.exitcode for process in starters] == [0] * len(starters)
    migrated = connect(url)
    assert difference(migrated) == []
    migrated.dispose()
