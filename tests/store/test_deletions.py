"""Deletion: a job disappears at once and its rows piece by piece, so that no other transaction waits long."""

import threading
from collections.abc import Iterator
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, func, select, text

from app.main import create_app
from app.tuning import housekeeping
from app.tuning.database import reading, writing
from app.tuning.jobs import claims, deletions, outcomes, store
from app.tuning.jobs.attempts import AttemptKey, Cancelled, Lost, Released
from app.tuning.jobs.tables import Attempt, Deletion, EpochRow, Fit, Job, Outcome, Trial
from tests.conftest import IdleHousekeeper
from tests.support.ledger import GONE, Ledger, grid

EPOCHS = 400  # of each fit
FITS = 600


@pytest.fixture
def large(engine: Engine) -> tuple[Engine, UUID]:
    """An ended job with several 100,000 epochs."""
    ledger = Ledger(engine, audit_every=0)
    job_id = ledger.post(grid(FITS // 3, evaluation={"cv": 3, "refit": False}))
    claim = ledger.claim(job_id)
    ledger.cancel(job_id)
    ledger.do(outcomes.record, claim, Cancelled())
    series = "generate_series(1, :n) AS t(n)"
    if engine.dialect.name == "sqlite":
        series = "(WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < :n) SELECT n FROM c)"
    with writing(engine) as session:
        session.execute(
            text(f"INSERT INTO epochs (fit_id, epoch, seconds) SELECT fits.id, n, 0.1 FROM fits, {series}"),
            {"n": EPOCHS},
        )
    return engine, job_id


def count(engine: Engine, table: type) -> int:
    with reading(engine) as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


@pytest.fixture
def client(large: tuple[Engine, UUID]) -> Iterator[TestClient]:
    with TestClient(create_app(large[0], IdleHousekeeper)) as made:
        yield made


@pytest.mark.slow
def test_a_large_job_disappears_at_once_and_others_write_while_its_rows_are_deleted(
    large: tuple[Engine, UUID], client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, job_id = large
    monkeypatch.setattr(housekeeping, "PATIENCE_SECONDS", 60.0)
    assert client.delete(f"/v1/jobs/{job_id}").status_code == 204
    assert client.get(f"/v1/jobs/{job_id}").status_code == 404
    assert client.delete(f"/v1/jobs/{job_id}").status_code == 404
    assert count(engine, EpochRow) == FITS * EPOCHS, "nobody has waited for these"
    left: list[int] = []
    stop = threading.Event()

    def write() -> None:
        """Others: note how many rows are left after each of their writes."""
        while not stop.wait(0.02):
            with writing(engine) as session:
                store.remember(session, f"key-{len(left)}", "", "")
                left.append(session.scalar(select(func.count()).select_from(Fit)) or 0)

    other = threading.Thread(target=write)
    other.start()
    sweep = threading.Thread(target=sweep_all, args=(engine,))
    sweep.start()
    sweep.join()
    stop.set()
    other.join()
    between = {fits for fits in left if 0 < fits < FITS}
    assert len(between) >= 10, "others came in between, again and again"
    for table in (Job, Trial, Fit, Attempt, EpochRow, Deletion):
        assert count(engine, table) == 0


def sweep_all(engine: Engine) -> None:
    while count(engine, Deletion):
        housekeeping.sweep(engine, threading.Event())


@pytest.mark.slow
def test_rows_are_deleted_in_many_small_transactions(large: tuple[Engine, UUID]) -> None:
    engine, job_id = large
    begin(engine, job_id)
    before = FITS * EPOCHS
    while count(engine, Deletion):
        with writing(engine) as session:
            assert deletions.delete_some_rows(session)
        now = count(engine, EpochRow)
        assert before - now <= deletions.MAX_ROWS_DELETED
        before = now
    with writing(engine) as session:
        assert not deletions.delete_some_rows(session)


def begin(engine: Engine, job_id: UUID) -> None:
    with writing(engine) as session:
        deletions.begin_deletion(session, session.get_one(Job, job_id))


@pytest.mark.slow
def test_concurrent_and_interrupted_sweeps_complete_a_deletion(large: tuple[Engine, UUID]) -> None:
    engine, job_id = large
    begin(engine, job_id)
    halt = threading.Event()
    threading.Timer(0.3, halt.set).start()
    housekeeping.sweep(engine, halt)  # whoever began it has died
    assert count(engine, Deletion) == 1
    others = [threading.Thread(target=sweep_all, args=(engine,)) for _ in range(3)]
    for other in others:
        other.start()
    for other in others:
        other.join()
    assert [count(engine, table) for table in (Trial, Fit, Attempt, EpochRow, Deletion)] == [0] * 5


def test_rows_of_a_deleted_job_can_be_neither_read_nor_claimed(engine: Engine) -> None:
    ledger = Ledger(engine)
    job_id = ledger.post(grid(2))
    claim = ledger.claim(job_id)
    ledger.cancel(job_id)
    ledger.do(outcomes.record, claim, Cancelled())
    begin(engine, job_id)
    hold = AttemptKey(job_id, claim.fit_id, 1)
    with reading(engine) as session:
        assert claims.list_claimable(session) == []
        assert claims.list_leases(session) == []
        assert claims.count_held(session, "w1") == 0
        assert claims.job_state_if_held(session, hold) is None
    assert not ledger.do(claims.renew, hold, 15.0)
    assert not ledger.finish(hold)
    assert not ledger.fail(hold)
    assert not ledger.do(outcomes.record, hold, Released())
    assert not ledger.lose(hold)
    assert not ledger.do(claims.release_orphaned, "m1", "w1")
    assert not ledger.do(claims.record_process_death, "m1", "w1", Lost(Outcome.LOST, GONE))
    assert ledger.none_to_claim(job_id)
