"""Which worker may claim which fit, if it lacks the data, rests after a fault, or has lost the fit before."""

from uuid import UUID

import pytest
from sqlalchemy import Engine, select, update
from sqlalchemy.exc import OperationalError

from app.tuning import housekeeping
from app.tuning.database import clock, reading, writing
from app.tuning.jobs import claims, outcomes, store, workers
from app.tuning.jobs.attempts import Released, Unavailable
from app.tuning.jobs.claims import Claim
from app.tuning.jobs.tables import Absence, Attempt, JobState, Worker
from app.tuning.lease_watch import Watch
from tests.support.ledger import BROKEN, Ledger, grid

OTHER_DATA = {"dataset": {"name": "mnist"}}


def lack(ledger: Ledger, job_id: UUID, worker: str) -> None:
    """The worker claims a fit and does not find the data."""
    assert ledger.do(outcomes.record, ledger.claim(job_id, worker), Unavailable(BROKEN, worker, "digits"))


def offered(ledger: Ledger, worker: str) -> list[UUID]:
    """The jobs of which a worker may claim a fit."""
    with reading(ledger.engine) as session:
        return [job_id for job_id, _ in claims.list_claimable(session, worker)]


def may_claim(ledger: Ledger, job_id: UUID, worker: str) -> bool:
    """Whether a fit of the job is listed for the worker and can be claimed; it is released again."""
    is_offered = job_id in offered(ledger, worker)
    claim: Claim | None = ledger.do(claims.claim, job_id, worker, "m")
    assert (claim is not None) == is_offered
    return claim is not None and ledger.do(outcomes.record, claim, Released())


def pass_time(ledger: Ledger, seconds: float) -> None:
    """Set the times in the rows of workers and absences back."""
    with reading(ledger.engine) as session:
        rests = {one.name: one.rests_until for one in session.scalars(select(Worker))}
        absences = [(one.worker, one.dataset) for one in session.scalars(select(Absence))]
    for name, until in rests.items():
        if until:
            ledger.do(
                store.execute_change, update(Worker).where(Worker.name == name).values(rests_until=clock(-seconds))
            )
    for worker, dataset in absences:
        mine = update(Absence).where(Absence.worker == worker, Absence.dataset == dataset)
        ledger.do(store.execute_change, mine.values(noted_at=clock(-seconds)))
    ledger.do(
        store.execute_change, update(Attempt).where(Attempt.ended_at.is_not(None)).values(ended_at=clock(-seconds))
    )


def leave(ledger: Ledger, worker: str) -> None:
    """Housekeeping removes this worker, and the others are seen."""
    with reading(ledger.engine) as session:
        others = session.scalars(select(Worker.name).where(Worker.name != worker)).all()
    now = 0.0
    watch = Watch[str](lambda: now)
    while now <= housekeeping.GONE_SECONDS:
        with reading(ledger.engine) as session:
            assert session.get(Worker, worker)
        for other in others:
            ledger.do(workers.note_presence, other)
        housekeeping.forget_gone_workers(ledger.engine, watch)
        now += housekeeping.ROUND_SECONDS
    with reading(ledger.engine) as session:
        assert set(session.scalars(select(Worker.name))) == set(others)


def test_a_worker_without_the_data_leaves_the_job_to_another_and_claims_from_other_jobs(engine: Engine) -> None:
    ledger = Ledger(engine)
    job_id, other = ledger.post(grid(2)), ledger.post(grid(2, **OTHER_DATA))
    ledger.do(workers.note_presence, "w2")
    lack(ledger, job_id, "w1")
    assert ledger.job(job_id).state == JobState.RUNNING
    assert not may_claim(ledger, job_id, "w1")
    assert may_claim(ledger, job_id, "w2")
    assert may_claim(ledger, other, "w1")


def test_a_worker_looks_for_missing_data_again_after_a_while(engine: Engine) -> None:
    ledger = Ledger(engine)
    job_id = ledger.post(grid(2))
    ledger.do(workers.note_presence, "w2")
    lack(ledger, job_id, "w1")
    pass_time(ledger, 59)
    assert not may_claim(ledger, job_id, "w1")
    pass_time(ledger, 61)
    assert may_claim(ledger, job_id, "w1")


def test_a_worker_without_the_data_claims_no_such_fit_between_two_fits(engine: Engine) -> None:
    ledger = Ledger(engine)
    job_id = ledger.post(grid(2))
    ledger.do(workers.note_presence, "w2")
    mine, second = ledger.claim(job_id), ledger.claim(job_id)
    assert ledger.do(outcomes.record, second, Unavailable(BROKEN, "w1", "digits"))
    assert ledger.do(outcomes.record, mine, Released())
    assert ledger.do(claims.claim_following, job_id, "w1", "m1") is None


def test_a_job_fails_once_all_workers_lack_its_data(engine: Engine) -> None:
    ledger = Ledger(engine)
    job_id = ledger.post(grid(2))
    for worker in ("w1", "w2", "w3"):
        ledger.do(workers.note_presence, worker)
    for worker in ("w1", "w2"):
        lack(ledger, job_id, worker)
        assert ledger.job(job_id).state == JobState.RUNNING
    lack(ledger, job_id, "w3")
    job = ledger.job(job_id)
    assert (job.state, job.error) == (JobState.FAILED, BROKEN)


def test_each_worker_looks_again_at_once_for_a_later_job(engine: Engine) -> None:
    ledger = Ledger(engine)
    job_id = ledger.post(grid(2))
    ledger.do(workers.note_presence, "w2")
    for worker in ("w1", "w2"):
        lack(ledger, job_id, worker)
    later = ledger.post(grid(2))
    lack(ledger, later, "w1")
    assert ledger.job(later).state == JobState.RUNNING, "the other's may have been put there meanwhile"
    assert not may_claim(ledger, later, "w1")
    assert may_claim(ledger, later, "w2")
    lack(ledger, later, "w2")
    assert ledger.job(later).state == JobState.FAILED


def test_a_job_does_not_fail_while_one_of_its_fits_is_trained(engine: Engine) -> None:
    ledger = Ledger(engine)
    job_id = ledger.post(grid(2))
    training = ledger.claim(job_id, "w1", "another process of the same worker")
    lack(ledger, job_id, "w1")
    assert ledger.job(job_id).state == JobState.RUNNING
    assert not may_claim(ledger, job_id, "w1"), "it would give it back at once, and again and again"
    assert ledger.finish(training)
    assert may_claim(ledger, job_id, "w1")


def test_when_the_only_worker_with_the_data_is_gone_the_others_look_once_more(engine: Engine) -> None:
    ledger = Ledger(engine)
    job_id = ledger.post(grid(2))
    ledger.do(workers.note_presence, "w2")
    lack(ledger, job_id, "w1")
    leave(ledger, "w2")
    assert ledger.job(job_id).state == JobState.RUNNING
    lack(ledger, job_id, "w1")
    assert ledger.job(job_id).state == JobState.FAILED


def test_absences_are_deleted_with_their_worker(engine: Engine) -> None:
    ledger = Ledger(engine)
    job_id = ledger.post(grid(2))
    ledger.do(workers.note_presence, "w2")
    lack(ledger, job_id, "w1")
    leave(ledger, "w1")
    with reading(engine) as session:
        assert session.scalars(select(Absence)).all() == []


def test_no_worker_is_removed_while_nobody_can_write(sqlite_engine: Engine) -> None:
    ledger, now = Ledger(sqlite_engine), 0.0
    ledger.do(workers.note_presence, "w1")
    watch = Watch[str](lambda: now)
    with writing(sqlite_engine) as busy:
        busy.execute(select(1))
        for _ in range(4):
            housekeeping.forget_gone_workers(sqlite_engine, watch)
            now += housekeeping.ROUND_SECONDS / 2
        with pytest.raises(OperationalError):
            now += housekeeping.GONE_SECONDS
            housekeeping.forget_gone_workers(sqlite_engine, watch)


def test_rests_grow_with_every_fault_and_start_over_after_a_minute_without(engine: Engine) -> None:
    ledger = Ledger(engine)
    job_id = ledger.post(grid(2))

    def rest() -> float:
        """How long it is to rest after one more fault."""
        ledger.do(workers.rest_worker, "w1")
        assert not may_claim(ledger, job_id, "w1")
        with reading(engine) as session:
            until, now = session.execute(select(Worker.rests_until, clock(0)).where(Worker.name == "w1")).one()
        return float((until - now).total_seconds())

    rests = [rest() for _ in range(8)]
    assert rests[:4] == sorted(rests[:4])
    assert 0 < rests[0] <= 1
    assert 3 < rests[7] <= 5
    pass_time(ledger, 1)
    assert may_claim(ledger, job_id, "w1")
    assert rest() > 3
    pass_time(ledger, 61)
    assert rest() <= 1


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "at work"])
def test_a_fit_that_a_worker_has_lost_is_left_to_others(engine: Engine, busy: bool) -> None:
    ledger = Ledger(engine)
    job_id, other = ledger.post(grid(1, evaluation={"cv": 2})), ledger.post(grid(1))
    ledger.do(workers.note_presence, "w2")
    lost = ledger.claim(job_id, "w1")
    second = ledger.claim(job_id, "w1")
    assert ledger.lose(lost)
    assert not may_claim(ledger, job_id, "w1"), "nothing else of it waits"
    assert may_claim(ledger, job_id, "w2")
    if busy:
        ledger.claim(other, "w2")
    pass_time(ledger, 61)
    assert may_claim(ledger, job_id, "w1") == (not busy)
    leave(ledger, "w2")
    assert may_claim(ledger, job_id, "w1")
    assert ledger.finish(second)


def test_a_lost_fit_is_not_left_to_a_worker_without_the_data(engine: Engine) -> None:
    ledger = Ledger(engine)
    job_id = ledger.post(grid(2))
    ledger.do(workers.note_presence, "w1")
    lack(ledger, job_id, "w2")
    assert ledger.lose(ledger.claim(job_id, "w1"))
    assert may_claim(ledger, job_id, "w1")
