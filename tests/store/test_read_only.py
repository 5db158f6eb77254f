"""A PostgreSQL that turns read-only, as in a failover, is handled like one that does not respond."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from fastapi.testclient import TestClient
from psycopg import errors
from sqlalchemy import Engine, text

from app.main import create_app
from app.tuning import housekeeping
from app.tuning.database import connect, reading, writing
from app.tuning.jobs import claims
from app.tuning.jobs.attempts import Result
from app.tuning.jobs.claims import Claim
from app.tuning.jobs.tables import JobState
from app.tuning.migrations import migrate
from app.tuning.outages import AWAY, PASSING, Standing, database_standing
from tests.conftest import IdleHousekeeper
from tests.support.driving import drive, grid, post, steady
from tests.support.ledger import Ledger, scored
from tests.support.ledger import grid as spec
from tests.support.rejecting import problem
from tests.support.servers import Postgres
from tests.worker.test_outages import Process
from worker.lease import LeaseHeartbeat
from worker.retries import Interrupted
from worker.runner import run_fits


def set_read_only(postgres: Postgres, how: str) -> None:
    postgres.execute(f"ALTER SYSTEM SET default_transaction_read_only = {how}")
    postgres.execute("SELECT pg_reload_conf()")


@contextmanager
def read_only(postgres: Postgres, engine: Engine) -> Iterator[None]:
    """A server that is read-only inside the block, in all its sessions."""
    try:
        set_read_only(postgres, "on")
        eventually(lambda: read_only_setting(engine) == "on")
        time.sleep(1.0)  # the other sessions see it at about the same time
        yield
    finally:
        set_read_only(postgres, "off")
        eventually(lambda: read_only_setting(engine) == "off")
        time.sleep(1.0)


def read_only_setting(engine: Engine) -> str:
    with engine.connect() as connection:
        return str(connection.execute(text("SHOW default_transaction_read_only")).scalar())


def eventually(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def own_engine(postgres: Postgres) -> Iterator[Engine]:
    """A database for this test alone."""
    made = connect(postgres.new_database())
    migrate(made)
    yield made
    made.dispose()


def test_changes_are_a_503_and_reads_succeed(
    postgres: Postgres, own_engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    with TestClient(create_app(own_engine, IdleHousekeeper), raise_server_exceptions=False) as client:
        ended, going = post(client, grid(1))["id"], post(client, grid(1))["id"]
        drive(own_engine, ended, steady)
        with read_only(postgres, own_engine):
            for _ in range(3):
                problem(client.post("/v1/jobs", json=grid(1)), 503)
                problem(client.post("/v1/jobs", json=grid(1), headers={"Idempotency-Key": "k"}), 503)
                problem(client.post(f"/v1/jobs/{going}/cancel"), 503)
                problem(client.delete(f"/v1/jobs/{ended}"), 503)
                response = client.get("/readyz")
                problem(response, 503)
                assert response.json()["checks"]["database"] == "unavailable"
                for address in ("/v1/jobs", f"/v1/jobs/{ended}/best", f"/v1/jobs/{going}/trials", "/livez"):
                    assert client.get(address).status_code == 200
        assert client.get("/readyz").status_code == 200
        assert client.post(f"/v1/jobs/{going}/cancel").status_code == 202
        assert client.delete(f"/v1/jobs/{ended}").status_code == 204
        assert len(client.get("/v1/jobs").json()["items"]) == 1
    assert says(caplog) == ["database away", "database back"]


@pytest.mark.slow
def test_a_fit_that_ends_while_read_only_is_recorded_on_its_first_attempt(
    postgres: Postgres, own_engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = Ledger(own_engine)
    job_id = ledger.post(spec(1, evaluation={"cv": 2, "refit": False}))

    def train(claim: Claim, heartbeat: LeaseHeartbeat) -> Result:
        with read_only(postgres, own_engine):
            heartbeat.epoch({"epoch": 1, "loss": 1.0, "accuracy": 0.5, "seconds": 0.1})
            heartbeat.report()
            assert database_standing(own_engine) is Standing.UNWRITABLE
        set_read_only(postgres, "on")
        eventually(lambda: read_only_setting(own_engine) == "on")
        time.sleep(1.0)
        threading.Timer(2.0, set_read_only, (postgres, "off")).start()
        return scored(0.5)

    assert run_fits(own_engine, train, "w1", "m1", Process(), 2) == 2
    ledger.audit()
    assert ledger.job(job_id).state == JobState.SUCCEEDED
    assert [fit.attempt for fit in ledger.fits(job_id)] == [1, 1]
    assert set(says(caplog)) <= {"database away", "database back", "recording again, alone"}
    assert len(says(caplog)) <= 10


@pytest.mark.slow
def test_claims_wait_while_read_only_and_log_it_once(
    postgres: Postgres, own_engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = Ledger(own_engine)
    job_id = ledger.post(spec(1, evaluation={"cv": 2, "refit": False}))
    workers = [
        threading.Thread(target=run_fits, args=(own_engine, lambda *_: scored(0.5), f"w{n}", f"m{n}", Process(), 50))
        for n in range(4)
    ]
    with read_only(postgres, own_engine):
        for worker in workers:
            worker.start()
        time.sleep(3)
        assert all(worker.is_alive() for worker in workers)
    for worker in workers:
        worker.join()
    ledger.audit()
    assert ledger.job(job_id).state == JobState.SUCCEEDED
    assert [fit.attempt for fit in ledger.fits(job_id)] == [1, 1]
    assert says(caplog) == ["database away", "database back"]


def test_a_worker_that_waits_to_claim_can_be_stopped(postgres: Postgres, own_engine: Engine) -> None:
    Ledger(own_engine).post(spec(1))
    asked = threading.Event()
    process = Process()
    process.stopping = asked.is_set  # type: ignore[method-assign]

    def work() -> None:
        with pytest.raises(Interrupted):
            run_fits(own_engine, lambda *_: scored(0.5), "w1", "m1", process, 50)

    worker = threading.Thread(target=work, daemon=True)
    with read_only(postgres, own_engine):
        worker.start()
        eventually(lambda: database_standing(own_engine) is Standing.UNWRITABLE)
        asked.set()
        worker.join(60)
        assert not worker.is_alive()


@pytest.mark.slow
def test_no_lease_expires_while_no_worker_can_renew(
    postgres: Postgres, own_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in {"LEASE": 4.0, "OVERDUE": 0.5, "ROUND": 0.1}.items():
        monkeypatch.setattr(housekeeping, f"{name}_SECONDS", seconds)
    ledger = Ledger(own_engine)
    claim = ledger.claim(ledger.post(spec(1)))
    housekeeper = housekeeping.Housekeeper(own_engine)
    housekeeper.prepare()
    with read_only(postgres, own_engine):
        housekeeper.start()
        time.sleep(6)
    try:
        assert ledger.do(claims.renew, claim, 15.0)
    finally:
        housekeeper.stop()


@pytest.mark.parametrize("state", [*PASSING, "08006", "40001", "53100", "53300", "55P03", "57014", "57P01", "57P03"])
def test_passing_conditions_are_recognized_by_sqlstate(postgres_engine: Engine, state: str) -> None:
    raised = f"DO $$ BEGIN RAISE EXCEPTION 'as it happens' USING ERRCODE = '{state}'; END $$"
    for transaction in (reading, writing):
        with pytest.raises(AWAY), transaction(postgres_engine) as session:
            session.execute(text(raised))


def test_lasting_errors_are_not_outages(postgres_engine: Engine) -> None:
    wrong = errors.lookup("22012")
    with pytest.raises(Exception) as caught, writing(postgres_engine) as session:
        session.execute(text("SELECT 1 / 0"))
    assert isinstance(getattr(caught.value, "orig", None), wrong)
    assert not isinstance(caught.value, AWAY)


def says(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Tunewell's log records from warnings up."""
    return [one.message for one in caplog.records if one.name.startswith("tunewell") and one.levelname != "INFO"]
