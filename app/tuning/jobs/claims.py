"""How fits are claimed, kept and recorded: every change names its attempt, so that a late one finds nothing."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import bindparam, delete, exists, func, or_, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert  # SQLite's dialect writes its ON CONFLICT too
from sqlalchemy.orm import Session

from app.tuning.database import clock
from app.tuning.jobs.outcomes import advance_job, count_cost, end_trial, fail_job, is_best, move_trial
from app.tuning.jobs.store import execute_change, lock_job, move, touch
from app.tuning.jobs.tables import ACTIVE_JOB, Attempt, EpochRow, Fit, Job, JobState, Outcome, State, Trial
from app.tuning.jobs.workers import BY, MAY_CLAIM, MAY_TRAIN, may_be_trained, note_absence
from app.tuning.search.models import Value
from app.tuning.search.spec import JobSpec
from app.tuning.search.stored import UnreadableSpec, read_spec_or_none

LEASE_SECONDS = 15.0
MAX_CLAIMABLE = 64  # jobs that are looked at in one go
MAX_LOST_ATTEMPTS = 3
Error = dict[str, Any]  # type, message and traceback


@dataclass(frozen=True)
class AttemptKey:
    """One attempt at a fit: the fence of all that is recorded of it."""

    job_id: UUID
    fit_id: int
    attempt: int


class Lease(NamedTuple):
    """How long an attempt's fit was last said to be its own: every renewal says a later moment."""

    hold: AttemptKey
    until: datetime


@dataclass(frozen=True)
class Claim(AttemptKey):
    """A fit that is this worker's until its lease runs out, and what is to be trained."""

    trial_number: int
    fold: int | None
    spec: JobSpec
    params: dict[str, Value]

    @property
    def hyperparameters(self) -> dict[str, Value]:
        """All that the model takes."""
        return self.spec.hyperparameters(self.params)


@dataclass(frozen=True)
class Result:
    """What a fit found: accuracy and loss on its fold, for the refit on the test set; seconds; what trained it."""

    accuracy: float
    loss: float | None
    fit_seconds: float
    score_seconds: float
    environment: dict[str, str]


# The row that a statement changes is read from its answer.
CHANGED = {"synchronize_session": False, "populate_existing": True}
FREE_SLOTS = Job.max_parallel_fits - Job.fits_running
WAITING = (Fit.state == State.QUEUED, Fit.position.is_not(None))
OPEN = (Job.state.in_(ACTIVE_JOB), or_(FREE_SLOTS.is_(None), FREE_SLOTS > 0))
CLAIMABLE = (*OPEN, exists().where(Fit.job_id == Job.id, *WAITING))
CLAIMABLE_BY = (*OPEN, *MAY_CLAIM, exists().where(Fit.job_id == Job.id, *WAITING, MAY_TRAIN))
# The job with the fewest fits running comes first: so jobs share the workers fairly.
TURN = (Job.fits_running, func.coalesce(Job.last_claim_at, Job.created_at), Job.id)
_MINE = (bindparam(column.key, type_=column.type) for column in (Job.fits_running, Job.last_claim_at, Job.id))
OTHER = select(Job.id).where(*CLAIMABLE_BY, tuple_(*TURN) < tuple_(*_MINE)).order_by(*TURN).limit(1)

_NEXT = select(Fit.id).join(Job, Job.id == Fit.job_id).where(Job.id == bindparam("job"), *WAITING)
_MINE_NEXT = _NEXT.where(*MAY_CLAIM, MAY_TRAIN).order_by(Fit.position).limit(1)
TAKE = (
    update(Fit)
    .where(Fit.id == _MINE_NEXT.scalar_subquery(), Fit.state == State.QUEUED)
    .values(state=State.RUNNING, attempt=Fit.attempt + 1, worker=BY)
    .values(lease_until=clock(LEASE_SECONDS), started_at=clock(0))
    .returning(Fit)
    .execution_options(**CHANGED)
)


def list_claimable(session: Session, worker: str | None = None) -> list[tuple[UUID, int]]:
    """Jobs with fits to claim (for this worker, if named) and how many, by turns: the first that can be read."""
    jobs = select(Job.id, Job.fits_queued, FREE_SLOTS, Job.spec).order_by(*TURN)
    jobs = jobs.where(*CLAIMABLE_BY).params(by=worker) if worker else jobs.where(*CLAIMABLE)
    rows = session.execute(jobs, execution_options={"yield_per": MAX_CLAIMABLE})
    mine = (
        (job_id, min(queued, queued if room is None else room))
        for job_id, queued, room, spec in rows
        if read_spec_or_none(spec)
    )
    return list(islice(mine, MAX_CLAIMABLE))


def claim(session: Session, job_id: UUID, worker: str, message_id: str) -> Claim | None:
    """Take the job's next fit, with a lease; None if it has none for now, or if this version cannot run the job.

    Raises:
        UnreadableSpec: the job can be read and this fit cannot.
    """
    job = lock_job(session, job_id)
    return _take(session, job, worker, message_id) if job else None


def claim_following(session: Session, job_id: UUID, worker: str, message_id: str) -> Claim | None:
    """Take a fit in the transaction that has recorded one of this job, which it has locked.

    It is a fit of the job whose turn it is; None if that is locked by somebody else: holding one job and waiting for
    another could deadlock.
    """
    with session.no_autoflush:  # the job's row is written once
        mine = session.get_one(Job, job_id)
        turn = {"fits_running": mine.fits_running, "last_claim_at": mine.last_claim_at, "id": job_id, "by": worker}
        other = session.scalar(OTHER, turn)
        job = lock_job(session, other, skip_locked=True) if other else mine
        return _take(session, job, worker, message_id) if job else None


def _take(session: Session, job: Job, worker: str, message_id: str) -> Claim | None:
    if job.state not in ACTIVE_JOB or job.fits_running >= (job.max_parallel_fits or job.fits_total):
        return None
    spec = read_spec_or_none(job.spec)
    fit = session.scalar(TAKE, {"job": job.id, "by": worker}) if spec else None
    return _begin(session, job, spec, fit, message_id) if spec and fit else None


def _begin(session: Session, job: Job, spec: JobSpec, fit: Fit, message_id: str) -> Claim:
    assert fit.trial_number is not None and fit.worker and fit.started_at
    session.add(
        Attempt(fit_id=fit.id, attempt=fit.attempt, worker=fit.worker, message_id=message_id, started_at=fit.started_at)
    )
    trial = session.get_one(Trial, (job.id, fit.trial_number))
    _check(spec, trial)
    if trial.state == State.QUEUED:
        move_trial(job, trial, State.RUNNING)
    move(job, "fits", State.QUEUED, State.RUNNING)
    job.state, job.last_claim_at, job.parallel_fits = JobState.RUNNING, fit.started_at, job.fits_running
    job.started_at = job.started_at or fit.started_at
    touch(job)
    return Claim(job.id, fit.id, fit.attempt, fit.trial_number, fit.fold, spec, trial.params)


def _check(spec: JobSpec, trial: Trial) -> None:
    try:
        spec.hyperparameters(trial.params)
    except (TypeError, ValueError):
        raise UnreadableSpec([f"/trials/{trial.number}/params"]) from None


def job_state_if_held(session: Session, mine: AttemptKey) -> JobState | None:
    """The state of the job, or None if the fit is no longer this attempt's."""
    return session.scalar(
        select(Job.state).join(Fit, Fit.job_id == Job.id).where(Fit.id == mine.fit_id, *_fence(mine.attempt))
    )


def renew(session: Session, mine: AttemptKey, seconds: float, epochs: Iterable[dict[str, Any]] = ()) -> bool:
    """Hold the fit for so many seconds more and write the epochs that have ended; False if it is no longer mine."""
    held = update(Fit).where(Fit.id == mine.fit_id, *_fence(mine.attempt)).values(lease_until=clock(seconds))
    if not execute_change(session, held):
        return False
    _insert_epochs(session, mine, epochs)
    return True


def finish(session: Session, mine: AttemptKey, result: Result, epochs: Iterable[dict[str, Any]] = ()) -> bool:
    """Record a fit that succeeded, and its last epochs; False if it is no longer mine, and then nothing is written."""
    values = {
        "accuracy": result.accuracy,
        "loss": result.loss,
        "fit_seconds": result.fit_seconds,
        "score_seconds": result.score_seconds,
    }
    return _end(session, mine, State.SUCCEEDED, Outcome.SUCCEEDED, values, result.environment, epochs)


def fail(session: Session, mine: AttemptKey, error: Error, epochs: Iterable[dict[str, Any]] = ()) -> bool:
    """Record a fit whose training raised, and its last epochs; False if it is no longer mine."""
    return _end(session, mine, State.FAILED, Outcome.FAILED, {"error": error}, epochs=epochs)


def stop(session: Session, mine: AttemptKey) -> bool:
    """Record a fit that stopped because its job is being cancelled; False if it is no longer mine."""
    return _end(session, mine, State.CANCELLED, Outcome.CANCELLED, {})


def release(session: Session, mine: AttemptKey) -> bool:
    """Give the fit back, at no cost to it; False if it is no longer mine."""
    return _put_back(session, mine, Outcome.RELEASED)


def record_absence(session: Session, mine: Claim, worker: str, error: Error) -> bool:
    """Give the fit back for want of data: the job fails where nobody else may have them; False if it is not mine."""
    released = _put_back(session, mine, Outcome.RELEASED, error)
    note_absence(session, worker, mine.spec.dataset.name)
    job = lock_job(session, mine.job_id)
    if released and job and job.state in ACTIVE_JOB:
        job.dataset = mine.spec.dataset.name
        if not may_be_trained(session, job, worker):
            fail_job(session, job, error)
            touch(job)
    return released


def holds(session: Session, message_id: str, worker: str) -> bool:
    """Whether anything that was claimed for this message is still held."""
    return bool(_held_for(session, message_id, worker))


def release_orphaned(session: Session, message_id: str, worker: str) -> bool:
    """Give back what was claimed for this message when the answer to the claim's COMMIT was lost; False if nothing."""
    held = [hold for hold in _held_for(session, message_id, worker) if release(session, hold)]
    return bool(held)


def lose(session: Session, hold: AttemptKey, outcome: Outcome, error: Error) -> bool:
    """Put a fit back whose attempt came to nothing, or give it up after three; False if it was not that attempt's."""
    job, fit = lock_job(session, hold.job_id), session.get(Fit, hold.fit_id)
    if not job or not fit:
        return False
    if fit.lost_attempts + 1 < MAX_LOST_ATTEMPTS or job.state == JobState.CANCELLING or not read_spec_or_none(job.spec):
        return _put_back(session, hold, outcome, error, lost=1)
    last = f"given up after {MAX_LOST_ATTEMPTS} attempts that were lost, the last one so: {error['message']}"
    return _end(session, hold, State.FAILED, outcome, {"error": error | {"message": last}})


def count_held(session: Session, worker: str) -> int:
    """How many fits a worker trains just now."""
    mine = select(func.count()).where(Fit.state == State.RUNNING, Fit.worker == worker)
    return session.scalar(mine) or 0


def list_leases(session: Session) -> list[Lease]:
    """The leases of all fits that are being trained."""
    running = select(Fit.job_id, Fit.id, Fit.attempt, Fit.lease_until).where(Fit.state == State.RUNNING)
    return [
        Lease(AttemptKey(job, fit, attempt), until) for job, fit, attempt, until in session.execute(running) if until
    ]


def mark_overdue(session: Session, overdue: Iterable[Lease]) -> None:
    """Note that these leases are overdue: a real write to their rows, which succeeds if their workers can write too."""
    late = select(Fit.id).where(Fit.id.in_([one.hold.fit_id for one in overdue]), Fit.state == State.RUNNING)
    locked = session.scalars(late.order_by(Fit.id).with_for_update()).all()  # in order, so that no two deadlock
    execute_change(session, update(Fit).where(Fit.id.in_(locked)).values(doubted_at=clock(0)))


def expire_lease(session: Session, lease: Lease, error: Error) -> bool:
    """Lose the attempt whose lease it is; False if that has been renewed since, or has ended."""
    if not lock_job(session, lease.hold.job_id):
        return False
    mine = select(Fit.lease_until).where(Fit.id == lease.hold.fit_id, *_fence(lease.hold.attempt))
    until = session.scalar(mine.with_for_update())  # which waits for a renewal that is under way
    return until == lease.until and lose(session, lease.hold, Outcome.LOST, error)


def record_process_death(session: Session, message_id: str, worker: str, outcome: Outcome, error: Error) -> bool:
    """Record that the process which worked on this message has died; False if it held no fit (any more)."""
    holds = _held_for(session, message_id, worker)
    if holds:
        # A message that came twice may be in the hands of two: their leases will tell which of them is dead.
        return len(holds) == 1 and lose(session, holds[0], outcome, error)
    # House-keeping has seen the lease run out first; now the reason is known.
    mine = Attempt.message_id == message_id, Attempt.worker == worker
    last = select(func.max(Attempt.started_at)).where(*mine).scalar_subquery()
    vague = update(Attempt).where(*mine, Attempt.started_at == last, Attempt.outcome == Outcome.LOST)
    execute_change(session, vague.values(outcome=outcome, error=error))
    return False


def _held_for(session: Session, message_id: str, worker: str) -> list[AttemptKey]:
    rows = session.execute(
        select(Fit.job_id, Attempt.fit_id, Attempt.attempt)
        .join(Fit, Fit.id == Attempt.fit_id)
        .where(Attempt.message_id == message_id, Attempt.worker == worker, Attempt.ended_at.is_(None))
    )
    return [AttemptKey(*row) for row in rows]


def _insert_epochs(session: Session, mine: AttemptKey, epochs: Iterable[dict[str, Any]]) -> None:
    if rows := [{"fit_id": mine.fit_id, **epoch} for epoch in epochs]:
        # The answer to an earlier commit may have been lost: then they are there already.
        session.execute(insert(EpochRow).on_conflict_do_nothing(), rows)


def _fence(attempt: int) -> tuple[Any, Any]:
    return Fit.state == State.RUNNING, Fit.attempt == attempt


def _end(
    session: Session,
    mine: AttemptKey,
    state: State,
    outcome: Outcome,
    values: dict[str, Any],
    environment: dict[str, str] | None = None,
    epochs: Iterable[dict[str, Any]] = (),
) -> bool:
    job = lock_job(session, mine.job_id)
    ended = {"state": state, "lease_until": None, "ended_at": clock(0), **values}
    end = update(Fit).where(Fit.id == mine.fit_id, *_fence(mine.attempt)).values(ended).returning(Fit)
    fit = session.scalar(end.execution_options(**CHANGED)) if job else None
    if not job or not fit:
        # The answer to an earlier commit may have been lost: recorded with my attempt is recorded.
        again = (Fit.id == mine.fit_id, Fit.attempt == mine.attempt, Fit.state == state)
        return bool(session.scalar(select(exists().where(*again))))
    if state == State.FAILED and fit.started_at and fit.ended_at:
        # As scikit-learn has it with `error_score`: the time until it failed, and none of scoring.
        fit.fit_seconds, fit.score_seconds = max(0.0, (fit.ended_at - fit.started_at).total_seconds()), 0.0
    _close_attempt(session, mine, outcome, values.get("error"), (environment or {}).get("processor"))
    _insert_epochs(session, mine, epochs)
    trial = session.get_one(Trial, (job.id, fit.trial_number), populate_existing=True)
    with session.no_autoflush:  # the job's row is written once
        move(job, "fits", State.RUNNING, state)
        count_cost(job, fit, trial)
        if fit.fold is None:
            job.environment = environment or job.environment
        elif end_trial(session, job, trial) and is_best(job, trial):
            job.best_trial, job.best_accuracy, job.environment = trial.number, trial.validation_accuracy, environment
    advance_job(session, job, fit)
    touch(job)
    return True


def _put_back(session: Session, hold: AttemptKey, outcome: Outcome, error: Error | None = None, lost: int = 0) -> bool:
    job = lock_job(session, hold.job_id)
    if job and job.state == JobState.CANCELLING:
        return _end(session, hold, State.CANCELLED, outcome, {})
    again = {"state": State.QUEUED, "lease_until": None, "worker": None, "started_at": None}
    counted = {"lost_attempts": Fit.lost_attempts + lost}
    if not job or not execute_change(
        session, update(Fit).where(Fit.id == hold.fit_id, *_fence(hold.attempt)).values(again | counted)
    ):
        return False
    _close_attempt(session, hold, outcome, error)
    execute_change(session, delete(EpochRow).where(EpochRow.fit_id == hold.fit_id))
    move(job, "fits", State.RUNNING, State.QUEUED)
    touch(job)
    return True


def _close_attempt(
    session: Session, hold: AttemptKey, outcome: Outcome, error: Error | None, processor: str | None = None
) -> None:
    mine = update(Attempt).where(Attempt.fit_id == hold.fit_id, Attempt.attempt == hold.attempt)
    execute_change(session, mine.values(ended_at=clock(0), outcome=outcome, error=error, processor=processor))
