"""Housekeeping: expired leases, lost wakes, databases and brokers that are away."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import Engine, inspect, select, update

from app.tuning import broker as wakes
from app.tuning import housekeeping
from app.tuning.database import clock, connect, reading, writing
from app.tuning.jobs import claims
from app.tuning.jobs.claims import LEASE_SECONDS, Claim
from app.tuning.jobs.tables import Attempt, Fit, IdempotencyKey, Outcome, State
from tests.support.ledger import Ledger, grid
from tests.support.servers import Broker
from tests.support.watching import Watching


def row(engine: Engine, claim: Claim) -> Fit:
    """The current row of the claim's fit."""
    with writing(engine) as session:
        return session.get_one(Fit, claim.fit_id)


def renewing(engine: Engine, *kept: Claim) -> Callable[[float], None]:
    """Workers that renew the leases of these fits."""

    def renew(_: float) -> None:
        for claim in kept:
            with writing(engine) as session:
                assert claims.renew(session, claim, LEASE_SECONDS)

    return renew


def move_leases(engine: Engine, seconds: float) -> None:
    """Move all leases, as if the database's clock had jumped in the other direction."""
    with writing(engine) as session:
        for hold, until in claims.list_leases(session):
            moved = until + timedelta(seconds=seconds)
            session.execute(update(Fit).where(Fit.id == hold.fit_id).values(lease_until=moved))


def test_a_fit_whose_lease_is_not_renewed_is_requeued(engine: Engine) -> None:
    ledger = Ledger(engine)
    lost, kept = (lambda job: (ledger.claim(job), ledger.claim(job)))(ledger.post(grid(2)))
    watching = Watching(engine)
    watching.look_on(16, renewing(engine, kept))
    assert row(engine, lost).state == State.RUNNING, "a lease lasts 15 seconds from when it was first seen"
    watching.look()
    ledger.audit()
    assert (row(engine, lost).state, row(engine, lost).lost_attempts) == (State.QUEUED, 1)
    assert (row(engine, kept).state, row(engine, kept).attempt) == (State.RUNNING, 1)
    with writing(engine) as session:
        attempt = session.scalar(select(Attempt).where(Attempt.fit_id == lost.fit_id))
    assert attempt and attempt.outcome == Outcome.LOST and attempt.error
    assert attempt.error["message"].startswith("no sign of life for 15 seconds")


@pytest.mark.parametrize("seconds", [-60.0, -86_400.0, 3600.0])
def test_clock_jumps_cost_a_live_worker_no_fit(engine: Engine, seconds: float) -> None:
    """A machine that sleeps, or whose clock is set, moves all leases with respect to the database's clock."""
    ledger = Ledger(engine)
    claim = ledger.claim(ledger.post(grid(1)))
    renew = renewing(engine, claim)

    def live(now: float) -> None:
        if now % 4 == 0:
            renew(now)
        if now % 8 == 2:
            move_leases(engine, seconds)

    Watching(engine).look_on(80, live)
    assert (row(engine, claim).state, row(engine, claim).attempt) == (State.RUNNING, 1)


@pytest.mark.parametrize("seconds", [-60.0, 86_400.0], ids=["long over", "further ahead than leases are long"])
def test_clock_jumps_do_not_keep_the_fits_of_a_dead_worker(engine: Engine, seconds: float) -> None:
    claim = Ledger(engine).claim(Ledger(engine).post(grid(1)))
    move_leases(engine, seconds)
    Watching(engine).look_on(18)
    assert row(engine, claim).state == State.QUEUED


def test_a_lease_that_is_moved_back_does_not_count_as_renewed(engine: Engine) -> None:
    claim = Ledger(engine).claim(Ledger(engine).post(grid(1)))
    Watching(engine).look_on(18, lambda _: move_leases(engine, -60))
    assert row(engine, claim).state == State.QUEUED


def test_after_a_pause_of_housekeeping_workers_have_time_to_renew(engine: Engine) -> None:
    claim = Ledger(engine).claim(Ledger(engine).post(grid(1)))
    watching = Watching(engine)
    watching.look_on(8)
    watching.look(after=3600)
    assert row(engine, claim).state == State.RUNNING
    watching.look_on(6)
    assert row(engine, claim).state == State.QUEUED


def test_a_lease_renewed_at_the_last_moment_does_not_expire(engine: Engine) -> None:
    ledger = Ledger(engine)
    claim = ledger.claim(ledger.post(grid(1)))
    with reading(engine) as session:
        [seen] = claims.list_leases(session)
    assert ledger.do(claims.renew, claim, LEASE_SECONDS)
    assert not ledger.do(claims.expire_lease, seen, housekeeping.LEASE_EXPIRED)
    assert row(engine, claim).state == State.RUNNING


def test_concurrent_housekeepers_requeue_a_fit_once(engine: Engine) -> None:
    ledger = Ledger(engine)
    job_id = ledger.post(grid(2))
    lost = [ledger.claim(job_id) for _ in range(6)]
    watchings = [Watching(engine) for _ in range(4)]
    for one in watchings:
        one.look_on(16)
    houses = [threading.Thread(target=one.look) for one in watchings]
    for house_keeping in houses:
        house_keeping.start()
    for house_keeping in houses:
        house_keeping.join()
    ledger.audit()
    assert [row(engine, claim).lost_attempts for claim in lost] == [1] * 6


def test_old_keys_are_dropped_and_new_ones_kept(engine: Engine) -> None:
    with writing(engine) as session:
        for key, seconds in (("old", -90_000), ("new", -80_000)):
            session.add(IdempotencyKey(key=key, body_sha256="0", answer="{}", created_at=clock(seconds)))
    housekeeping.drop_old_keys(engine)
    with writing(engine) as session:
        assert session.scalars(select(IdempotencyKey.key)).all() == ["new"]


@pytest.fixture
def queue(broker: Broker) -> Iterator[Broker]:
    """An empty queue that receives this process's wakes."""
    usual = wakes.celery.conf.broker_url
    wakes.celery.conf.broker_url = broker.url
    broker.client().flushall()
    yield broker
    wakes.celery.conf.broker_url = usual


def test_wakes_are_sent_only_if_fits_wait_and_no_wake_does(sqlite_engine: Engine, queue: Broker) -> None:
    housekeeping.notify_workers(sqlite_engine)
    assert wakes.count_waiting_wakes() == 0
    Ledger(sqlite_engine).post(grid(3))
    housekeeping.notify_workers(sqlite_engine)
    assert wakes.count_waiting_wakes() == 10
    housekeeping.notify_workers(sqlite_engine)
    assert wakes.count_waiting_wakes() == 10


def test_no_more_wakes_are_sent_than_the_job_may_use_workers(sqlite_engine: Engine, queue: Broker) -> None:
    Ledger(sqlite_engine).post(grid(3, limits={"max_parallel_fits": 2}))
    housekeeping.notify_workers(sqlite_engine)
    assert wakes.count_waiting_wakes() == 2


@contextmanager
def kept(engine: Engine) -> Iterator[housekeeping.Housekeeper]:
    """Housekeeping in its thread."""
    housekeeper = housekeeping.Housekeeper(engine)
    housekeeper.prepare()
    housekeeper.start()
    try:
        yield housekeeper
    finally:
        housekeeper.stop()
    assert not housekeeper.is_alive()


def eventually(done: Callable[[], bool]) -> bool:
    """Whether the condition becomes true within a minute."""
    deadline = time.monotonic() + 60
    while not (came := done()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return came


def test_leases_expire_while_the_broker_is_away(
    sqlite_engine: Engine, queue: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(housekeeping, "LEASE_SECONDS", 1.0)
    ledger = Ledger(sqlite_engine)
    claim = ledger.claim(ledger.post(grid(1)))
    queue.kill()
    try:
        with kept(sqlite_engine) as housekeeper:
            assert eventually(lambda: row(sqlite_engine, claim).state == State.QUEUED)
            assert housekeeper.well(), "only the broker is unavailable"
    finally:
        queue.start()


@pytest.mark.parametrize("chore", ["requeue_expired", "notify_workers", "sweep"])
def test_a_failing_chore_is_logged_once_and_the_others_are_done(
    sqlite_engine: Engine,
    queue: Broker,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    chore: str,
) -> None:
    usual, rounds, mended = getattr(housekeeping, chore), count(), threading.Event()

    def fail(*arguments: object) -> None:
        next(rounds)
        if not mended.is_set():
            raise ZeroDivisionError("an unforeseen error")
        usual(*arguments)

    fail.__name__ = chore
    monkeypatch.setattr(housekeeping, chore, fail)
    monkeypatch.setattr(housekeeping, "ROUND_SECONDS", 0.05)
    Ledger(sqlite_engine).post(grid(1))
    with kept(sqlite_engine) as housekeeper:
        assert eventually(lambda: next(rounds) > 100)
        assert housekeeper.lives() and not housekeeper.well()
        assert chore == "notify_workers" or eventually(lambda: wakes.count_waiting_wakes() > 0)
        mended.set()
        assert eventually(housekeeper.well)
        assert eventually(lambda: wakes.count_waiting_wakes() > 0)
    said = [(one.levelname, one.message) for one in caplog.records if one.name == "tunewell.housekeeping"]
    assert said == [("ERROR", "housekeeping fails"), ("WARNING", "housekeeping goes on")]


def test_housekeeping_migrates_a_new_database(tmp_path: Path) -> None:
    engine = connect(f"sqlite:///{tmp_path / 'new.db'}")
    housekeeping.Housekeeper(engine).prepare()
    assert inspect(engine).has_table("jobs")
    engine.dispose()
