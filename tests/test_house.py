"""House-keeping: leases that ran out, wakes that were lost, databases and brokers that are away."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, inspect, select, update

from app.tuning import broker as wakes
from app.tuning import claims, house
from app.tuning.claims import Claim
from app.tuning.database import clock, connect, writing
from app.tuning.tables import Attempt, Fit, IdempotencyKey, Outcome, State
from tests.ledger import Ledger, grid
from tests.servers import Broker


def let_expire(engine: Engine, claim: Claim) -> None:
    """Let the claim's lease run out."""
    with writing(engine) as session:
        session.execute(update(Fit).where(Fit.id == claim.fit_id).values(lease_until=clock(-0.001)))


def row(engine: Engine, claim: Claim) -> Fit:
    """The claim's fit as it stands."""
    with writing(engine) as session:
        return session.get_one(Fit, claim.fit_id)


def test_a_fit_whose_lease_ran_out_goes_back(engine: Engine) -> None:
    ledger = Ledger(engine)
    lost, kept = (lambda job: (ledger.claim(job), ledger.claim(job)))(ledger.post(grid(2)))
    let_expire(engine, lost)
    house.take_back(engine)
    ledger.audit()
    assert (row(engine, lost).state, row(engine, lost).lost_attempts) == (State.QUEUED, 1)
    assert row(engine, kept).state == State.RUNNING
    with writing(engine) as session:
        attempt = session.scalar(select(Attempt).where(Attempt.fit_id == lost.fit_id))
    assert attempt and attempt.outcome == Outcome.LOST and attempt.error
    assert attempt.error["message"].startswith("no sign of life for 15 seconds")


def test_a_fit_that_is_renewed_meanwhile_stays(engine: Engine) -> None:
    ledger = Ledger(engine)
    claim = ledger.claim(ledger.post(grid(1)))
    let_expire(engine, claim)
    with writing(engine) as session:
        assert claims.renew(session, claim, 15.0)
    house.take_back(engine)
    assert row(engine, claim).state == State.RUNNING


def test_several_houses_at_once_take_a_fit_back_once(engine: Engine) -> None:
    ledger = Ledger(engine)
    job_id = ledger.post(grid(2))
    lost = [ledger.claim(job_id) for _ in range(6)]
    for claim in lost:
        let_expire(engine, claim)
    houses = [threading.Thread(target=house.take_back, args=(engine,)) for _ in range(4)]
    for one in houses:
        one.start()
    for one in houses:
        one.join()
    ledger.audit()
    assert [row(engine, claim).lost_attempts for claim in lost] == [1] * 6


def test_old_keys_are_dropped_and_new_ones_kept(engine: Engine) -> None:
    with writing(engine) as session:
        for key, seconds in (("old", -90_000), ("new", -80_000)):
            session.add(IdempotencyKey(key=key, body_sha256="0", answer="{}", created_at=clock(seconds)))
    house.drop_old_keys(engine)
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
    house.wake_idle(sqlite_engine)
    assert wakes.waiting() == 0
    Ledger(sqlite_engine).post(grid(3))
    house.wake_idle(sqlite_engine)
    assert wakes.waiting() == 10
    house.wake_idle(sqlite_engine)
    assert wakes.waiting() == 10


def test_no_more_workers_are_woken_than_the_job_may_use(sqlite_engine: Engine, queue: Broker) -> None:
    Ledger(sqlite_engine).post(grid(3, limits={"max_parallel_fits": 2}))
    house.wake_idle(sqlite_engine)
    assert wakes.waiting() == 2


def test_a_broker_that_is_away_keeps_no_lease_from_running_out(sqlite_engine: Engine, queue: Broker) -> None:
    ledger = Ledger(sqlite_engine)
    claim = ledger.claim(ledger.post(grid(1)))
    let_expire(sqlite_engine, claim)
    queue.kill()
    keeper = house.House(sqlite_engine)
    keeper.prepare()
    keeper.start()
    try:
        for _ in range(200):
            keeper.nudge()
            if row(sqlite_engine, claim).state == State.QUEUED:
                break
            threading.Event().wait(0.05)
    finally:
        keeper.stop()
        queue.start()
    assert row(sqlite_engine, claim).state == State.QUEUED
    assert not keeper.is_alive()


def test_a_new_database_gets_its_tables_from_house_keeping(tmp_path: Path) -> None:
    engine = connect(f"sqlite:///{tmp_path / 'new.db'}")
    house.House(engine).prepare()
    assert inspect(engine).has_table("jobs")
    engine.dispose()
