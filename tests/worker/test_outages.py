"""A fit that ends while its database is away is recorded when it is back, once and with all its epochs."""

import threading
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, select

from app.tuning.database import connect, reading, writing
from app.tuning.jobs.attempts import Result
from app.tuning.jobs.claims import Claim
from app.tuning.jobs.tables import EpochRow, Fit, State
from app.tuning.migrations import migrate
from tests.support.ledger import Ledger, grid, scored
from tests.support.servers import Postgres
from worker.lease import LeaseHeartbeat
from worker.runner import run_fits


class Process:
    """A process that is never asked to stop."""

    def stopping(self) -> bool:
        return False

    def watch(self, within: float) -> None:
        """There is no watchdog to arm."""

    def rest(self) -> None:
        """There is no watchdog to disarm."""

    def pause(self, seconds: float) -> None:
        pass


def epoch(number: int) -> dict[str, float | None]:
    return {"epoch": number, "loss": 1.0, "accuracy": 0.5, "val_loss": None, "val_accuracy": None, "seconds": 0.1}


@pytest.fixture
def postgres_engine(postgres: Postgres) -> Iterator[Engine]:
    """A database whose server the test may kill; it runs again afterwards."""
    made = connect(postgres.new_database())
    migrate(made)
    yield made
    made.dispose()


def test_training_goes_on_without_its_database_and_is_recorded_when_it_is_back(
    postgres: Postgres, postgres_engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = Ledger(postgres_engine)
    job_id = ledger.post(grid(1))
    back = threading.Timer(0.5, postgres.start)

    def train(claim: Claim, heartbeat: LeaseHeartbeat) -> Result:
        heartbeat.epoch(epoch(1))
        heartbeat.report()
        postgres.kill()
        for number in (2, 3):
            heartbeat.epoch(epoch(number))
            heartbeat.report()
        back.start()
        return scored(0.625)

    try:
        assert run_fits(postgres_engine, train, "w1", "m1", Process(), 1)
    finally:
        back.join()
    said = [record.message for record in caplog.records if record.name.startswith("tunewell")]
    assert (said.count("database away"), said.count("database back")) == (1, 1)
    ledger.audit()
    [fit] = [fit for fit in ledger.fits(job_id) if fit.state == State.SUCCEEDED]
    assert (fit.accuracy, fit.attempt) == (0.625, 1)
    with reading(postgres_engine) as session:
        assert session.scalars(select(EpochRow.epoch).order_by(EpochRow.epoch)).all() == [1, 2, 3]


def test_a_result_waits_for_another_write_transaction(sqlite_engine: Engine) -> None:
    ledger = Ledger(sqlite_engine)
    ledger.post(grid(1))
    begun, free = threading.Event(), threading.Event()

    def write_at_length() -> None:
        with writing(sqlite_engine) as session:
            session.scalars(select(Fit)).all()
            begun.set()
            free.wait(30)

    writer = threading.Thread(target=write_at_length)

    def train(claim: Claim, heartbeat: LeaseHeartbeat) -> Result:
        writer.start()
        assert begun.wait(30)
        threading.Timer(0.3, free.set).start()
        return scored(0.5)

    assert run_fits(sqlite_engine, train, "w1", "m1", Process(), 1)
    writer.join()
    ledger.audit()
    with reading(sqlite_engine) as session:
        assert session.scalars(select(Fit.accuracy).where(Fit.state == State.SUCCEEDED)).all() == [0.5]
