"""House-keeping: leases that ran out, wakes that were lost, databases and brokers that are away."""

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
    """The claim's fit as it stands."""
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
    """Move all leases, as seen by a database whose clock has leapt the other way."""
    with writing(engine) as session:
        for hold, until in claims.list_leases(session):
            moved = until + timedelta(seconds=seconds)
            session.execute(update(Fit).where(Fit.id == hold.fit_id).values(lease_until=moved))


def test_a_fit_whose_lease_is_not_renewed_goes_back(engine: Engine) -> None:
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
def test_clocks_that_leap_lose_no_fit_of_a_worker_that_lives(engine: Engine, seconds: float) -> None:
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
def test_clocks_that_leap_keep_no_fit_of_a_dead_worker(engine: Engine, seconds: float) -> None:
    claim = Ledger(engine).claim(Ledger(engine).post(grid(1)))
    move_leases(engine, seconds)
    Watching(engine).look_on(18)
    assert row(engine, claim).state == State.QUEUED


def test_leases_that_are_moved_back_are_no_sign_of_life(engine: Engine) -> None:
    claim = Ledger(engine).claim(Ledger(engine).post(grid(1)))
    Watching(engine).look_on(18, lambda _: move_leases(engine, -60))
    assert row(engine, claim).state == State.QUEUED


def test_a_process_that_was_held_up_itself_gives_workers_time_to_speak(engine: Engine) -> None:
    claim = Ledger(engine).claim(Ledger(engine).post(grid(1)))
    watching = Watching(engine)
    watching.look_on(8)
    watching.look(after=3600)
    assert row(engine, claim).state == State.RUNNING
    watching.look_on(6)
    assert row(engine, claim).state == State.QUEUED


def test_a_lease_that_is_renewed_at_the_last_moment_stays(engine: Engine) -> None:
    ledger = Ledger(engine)
    claim = ledger.claim(ledger.post(grid(1)))
    with reading(engine) as session:
        [seen] = claims.list_leases(session)
    assert ledger.do(claims.renew, claim, LEASE_SECONDS)
    assert not ledger.do(claims.expire_lease, seen, housekeeping.LEASE_EXPIRED)
    assert row(engine, claim).state == State.RUNNING


def test_several_houses_at_once_take_a_fit_back_once(engine: Engine) -> None:
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
    """An empty queue that this process's wakes go to."""
    usual = wakes.celery.conf.broker_url
    wakes.celery.conf.broker_url = broker.url
    broker.client().flushall()
    yield broker
    wakes.celery.conf.broker_url = usual


def test_workers_are_woken_once_when_fits_wait_and_no_wake_does(sqlite_engine: Engine, queue: Broker) -> None:
    housekeeping.notify_workers(sqlite_engine)
    assert wakes.count_waiting_wakes() == 0
    Ledger(sqlite_engine).post(grid(3))
    housekeeping.notify_workers(sqlite_engine)
    assert wakes.count_waiting_wakes() == 10
    housekeeping.notify_workers(sqlite_engine)
    assert wakes.count_waiting_wakes() == 10


def test_no_more_workers_are_woken_than_the_job_may_use(sqlite_engine: Engine, queue: Broker) -> None:
    Ledger(sqlite_engine).post(grid(3, limits={"max_parallel_fits": 2}))
    housekeeping.notify_workers(sqlite_engine)
    assert wakes.count_waiting_wakes() == 2


@contextmanager
def kept(engine: Engine) -> Iterator[housekeeping.Housekeeper]:
    """House-keeping in its thread."""
    keeper = housekeeping.Housekeeper(engine)
    keeper.prepare()
    keeper.start()
    try:
        yield keeper
    finally:
        keeper.stop()
    assert not keeper.is_alive()


def eventually(done: Callable[[], bool]) -> bool:
    """Whether it comes to be so within a minute."""
    deadline = time.monotonic() + 60
    while not (came := done()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return came


def test_a_broker_that_is_away_keeps_no_lease_from_running_out(
    sqlite_engine: Engine, queue: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(housekeeping, "LEASE_SECONDS", 1.0)
    ledger = Ledger(sqlite_engine)
    claim = ledger.claim(ledger.post(grid(1)))
    queue.kill()
    try:
        with kept(sqlite_engine) as keeper:
            assert eventually(lambda: row(sqlite_engine, claim).state == State.QUEUED)
            assert keeper.well(), "what is wrong is the broker"
    finally:
        queue.start()


@pytest.mark.parametrize("chore", ["requeue_expired", "notify_workers", "sweep"])
def test_whatever_goes_wrong_in_one_chore_is_told_once_and_the_others_are_done(
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
            raise ZeroDivisionError("nobody thought of this")
        usual(*arguments)

    fail.__name__ = chore
    monkeypatch.setattr(housekeeping, chore, fail)
    monkeypatch.setattr(housekeeping, "ROUND_SECONDS", 0.05)
    Ledger(sqlite_engine).post(grid(1))
    with kept(sqlite_engine) as keeper:
        assert eventually(lambda: next(rounds) > 100)
        assert keeper.lives() and not keeper.well()
        assert chore == "notify_workers" or eventually(lambda: wakes.count_waiting_wakes() > 0)
        mended.set()
        assert eventually(keeper.well)
        assert eventually(lambda: wakes.count_waiting_wakes() > 0)
    said = [(one.levelname, one.message) for one in caplog.records if one.name == "tunewell.house"]
    assert said == [("ERROR", "house-keeping fails"), ("WARNING", "house-keeping goes on")]


def test_a_new_database_gets_its_tables_from_house_keeping(tmp_path: Path) -> None:
    engine = connect(f"sqlite:///{tmp_path / 'new.db'}")
    housekeeping.Housekeeper(engine).prepare()
    assert inspect(engine).has_table("jobs")
    engine.dispose()
