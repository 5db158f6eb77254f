"""A database that keeps its clients waiting costs healthy fits no attempt."""

import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Engine, make_url, text
from sqlalchemy.exc import OperationalError

from app.tuning import housekeeping
from app.tuning.database import LOCK_SECONDS, impatient, writing
from app.tuning.jobs import claims
from app.tuning.jobs.attempts import Result
from app.tuning.jobs.claims import Claim
from app.tuning.jobs.tables import State
from tests.support.ledger import Ledger, grid, scored
from tests.worker.test_outages import Process
from worker import lease
from worker.lease import LeaseHeartbeat
from worker.runner import run_fits

ROOT = Path(__file__).parents[2]
# Training in a process of its own, under its real watchdog: it reports once for each line that it reads.
TRAIN = """
import sys
from app.tuning.database import connect
from worker import celery_process as process, lease, runner
process.HANG_SECONDS, lease.RENEW_SECONDS = 0.5, 0.0

def train(claim, heartbeat):
    for _ in sys.stdin:
        print("reports", flush=True)
        heartbeat.report(0.5)
        process.process.rest()  # until the next line
        print("goes on", flush=True)
    from app.tuning.jobs.attempts import Result
    return Result(0.5, 0.5, 1.0, 1.0, {})

runner.run_fits(connect(sys.argv[1]), train, "w1", "m1", process.process, 1)
"""


@contextmanager
def sqlite_held(engine: Engine, *statements: str) -> Iterator[None]:
    """Another process's connection, in a transaction begun with this statement."""
    assert engine.url.database
    other = sqlite3.connect(engine.url.database, isolation_level=None, timeout=60, check_same_thread=False)
    for statement in statements:
        other.execute(statement).fetchall()
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


@contextmanager
def postgres_held(engine: Engine, *statements: str) -> Iterator[None]:
    """The same for PostgreSQL."""
    url = make_url(engine.url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url) as other:
        for statement in statements:
            other.execute(statement.encode())
        yield
        other.rollback()


HOLDS: dict[str, tuple[str, Callable[..., AbstractContextManager[None]], tuple[str, ...]]] = {
    "a reader": ("sqlite_engine", sqlite_held, ("BEGIN", "SELECT count(*) FROM fits")),
    "a writer": ("sqlite_engine", sqlite_held, ("BEGIN IMMEDIATE",)),
    "everything": ("sqlite_engine", sqlite_held, ("BEGIN EXCLUSIVE",)),
    "a table lock": ("postgres_engine", postgres_held, ("LOCK TABLE fits IN EXCLUSIVE MODE",)),
    "a row lock": ("postgres_engine", postgres_held, ("SELECT 1 FROM fits FOR UPDATE",)),
}
Held = tuple[Engine, Callable[[], AbstractContextManager[None]]]


@pytest.fixture(params=HOLDS)
def held(request: pytest.FixtureRequest) -> Held:
    """A database, and a lock that keeps its writers waiting."""
    name, hold, statements = HOLDS[request.param]
    engine = request.getfixturevalue(name)
    return engine, lambda: hold(engine, *statements)


def test_a_wait_for_the_database_is_not_taken_for_a_hang(held: Held) -> None:
    engine, hold = held
    ledger = Ledger(engine)
    job_id = ledger.post(grid(1))
    command = [sys.executable, "-c", TRAIN, engine.url.render_as_string(hide_password=False)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as training:
        assert training.stdin and training.stdout
        print("once", file=training.stdin, flush=True)
        assert [next(training.stdout), next(training.stdout)] == ["reports\n", "goes on\n"]
        with hold():
            print("again", file=training.stdin, flush=True)
            assert next(training.stdout) == "reports\n"
            time.sleep(4)  # the watchdog would have killed it after one
        assert next(training.stdout, "killed") == "goes on\n"
        training.stdin.close()
    assert training.returncode == 0
    ledger.audit()
    assert [fit.attempt for fit in ledger.fits(job_id) if fit.state == State.SUCCEEDED] == [1]


def test_waits_for_the_database_do_not_count_towards_a_fits_timeout(
    held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, hold = held
    monkeypatch.setattr(lease, "RENEW_SECONDS", 0.0)
    ledger = Ledger(engine)
    job_id = ledger.post(grid(1, limits={"fit_timeout_seconds": 4}))
    released = threading.Event()

    def train(claim: Claim, heartbeat: LeaseHeartbeat) -> Result:
        with ExitStack() as stack:
            stack.enter_context(hold())
            let_go = threading.Timer(5, stack.pop_all().close)
            let_go.start()
            heartbeat.report()
            let_go.join()
        released.set()
        heartbeat.report()
        return scored(0.5)

    assert run_fits(engine, train, "w1", "m1", Process(), 1)
    assert released.is_set()
    assert [fit.state for fit in ledger.fits(job_id)].count(State.SUCCEEDED) == 1


def test_no_lease_expires_before_its_worker_had_time_to_write(held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, hold = held
    for name, seconds in {"LEASE": 6.0, "OVERDUE": 1.0, "PATIENCE": 0.5, "ROUND": 0.2}.items():
        monkeypatch.setattr(housekeeping, f"{name}_SECONDS", seconds)
    ledger = Ledger(engine)
    job_id = ledger.post(grid(2))
    held_fits = [ledger.claim(job_id) for _ in range(6)]
    renewed: list[bool] = []

    def renew(claim: Claim) -> None:
        with writing(engine) as session:
            renewed.append(claims.renew(session, claim, 6.0))

    housekeeper = housekeeping.Housekeeper(engine)
    housekeeper.prepare()
    workers = [threading.Thread(target=renew, args=(claim,)) for claim in held_fits]
    try:
        with hold():
            housekeeper.start()
            for worker in workers:
                worker.start()
            time.sleep(10)
        for worker in workers:
            worker.join()
    finally:
        housekeeper.stop()
    assert renewed == [True] * 6


def test_an_impatient_transaction_gives_up_soon_and_the_next_one_waits_as_usual(sqlite_engine: Engine) -> None:
    ledger = Ledger(sqlite_engine)
    with sqlite_held(sqlite_engine, "BEGIN IMMEDIATE"):
        started = time.monotonic()
        with pytest.raises(OperationalError, match="locked"), writing(impatient(sqlite_engine, 0.1)) as session:
            session.execute(text("SELECT 1"))
        assert time.monotonic() - started < LOCK_SECONDS / 2
    with ExitStack() as stack:
        stack.enter_context(sqlite_held(sqlite_engine, "BEGIN IMMEDIATE"))
        threading.Timer(1.0, stack.pop_all().close).start()
        ledger.post(grid(1))
