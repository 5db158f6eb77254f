"""How fits are claimed and their leases held; how an attempt ends is `outcomes`' to record."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import and_, bindparam, exists, func, or_, select, tuple_, update
from sqlalchemy.orm import Session

from app.tuning.database import clock
from app.tuning.jobs.attempts import AttemptKey, Epochs, ErrorRecord, Lost, Released, fence, insert_epochs
from app.tuning.jobs.counters import mark_changed, next_version
from app.tuning.jobs.outcomes import change_job, record, start_fit
from app.tuning.jobs.rungs import find_rung
from app.tuning.jobs.store import execute_change, lock_job
from app.tuning.jobs.tables import ACTIVE_JOB, Attempt, Fit, Job, JobState, Outcome, State, Trial
from app.tuning.jobs.workers import BY, MAY_CLAIM, MAY_TRAIN, rest_worker
from app.tuning.search.models import Value
from app.tuning.search.spec import JobSpec
from app.tuning.search.stored import UnreadableSpec, read_spec_or_none

LEASE_SECONDS = 15.0
MAX_CLAIMABLE = 64  # jobs that are looked at in one go


class Lease(NamedTuple):
    """Until when an attempt holds its fit: every renewal says a later moment."""

    key: AttemptKey
    until: datetime


@dataclass(frozen=True)
class Claim(AttemptKey):
    """A fit that is this worker's until its lease runs out, and what is to be trained."""

    trial_number: int
    fold: int | None
    spec: JobSpec
    params: dict[str, Value]
    n_resources: int | None = None  # of its rung
    may_go_on: bool = False  # with more epochs, in the next rung

    @property
    def hyperparameters(self) -> dict[str, Value]:
        """All that the model takes."""
        return self.spec.hyperparameters(self.params, self.n_resources)

    @property
    def is_refit(self) -> bool:
        """Whether it trains the best trial on everything."""
        return self.fold is None

    @property
    def keeps_model(self) -> bool:
        """Whether the model is to be stored."""
        return self.is_refit and self.spec.evaluation.keep_model


# The row that a statement changes is read from its answer.
CHANGED = {"synchronize_session": False, "populate_existing": True}
FREE_SLOTS = Job.max_parallel_fits - Job.fits_running
WAITING = (Fit.state == State.QUEUED, Fit.position.is_not(None))
OPEN = (Job.state.in_(ACTIVE_JOB), or_(FREE_SLOTS.is_(None), FREE_SLOTS > 0))
# Nothing is trained, and a worker has to propose the next trial.
TO_PROPOSE = and_(Job.unborn > 0, Job.fits_running == 0)
CLAIMABLE = (*OPEN, or_(TO_PROPOSE, exists().where(Fit.job_id == Job.id, *WAITING)))
CLAIMABLE_BY = (*OPEN, *MAY_CLAIM, or_(TO_PROPOSE, exists().where(Fit.job_id == Job.id, *WAITING, MAY_TRAIN)))
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


def expects_fits(session: Session, worker: str) -> bool:
    """Whether a job is being trained of which this worker may claim fits once the next step of its search is taken."""
    waiting = exists().where(Fit.job_id == Job.id, Fit.state == State.QUEUED, Fit.position.is_(None), Fit.fold >= 0)
    return bool(
        session.scalar(select(exists().where(*OPEN, *MAY_CLAIM, Job.fits_running > 0, waiting)), {"by": worker})
    )


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
    own = {"worker": fit.worker, "message_id": message_id, "started_at": fit.started_at}
    session.add(Attempt(fit_id=fit.id, attempt=fit.attempt, **own, version=next_version(job)))
    trial = session.get_one(Trial, (job.id, fit.trial_number))
    _check(spec, trial)
    start_fit(job, trial, fit)
    may_go_on = spec.resource == "epochs" and find_rung(job, fit.bracket, fit.iter + 1) is not None
    what = (fit.trial_number, fit.fold, spec, trial.params, fit.n_resources, may_go_on and not fit.is_refit)
    return Claim(job.id, fit.id, fit.attempt, *what)


def _check(spec: JobSpec, trial: Trial) -> None:
    try:
        spec.hyperparameters(trial.params)
    except (TypeError, ValueError):
        raise UnreadableSpec([f"/trials/{trial.number}/params"]) from None


def job_state_if_held(session: Session, mine: AttemptKey) -> JobState | None:
    """The state of the job, or None if the fit is no longer this attempt's."""
    return session.scalar(
        select(Job.state).join(Fit, Fit.job_id == Job.id).where(Fit.id == mine.fit_id, *fence(mine.attempt))
    )


def renew(session: Session, mine: AttemptKey, seconds: float, epochs: Epochs = ()) -> bool:
    """Hold the fit for so many seconds more and write the epochs that have ended; False if it is no longer mine."""
    held = update(Fit).where(Fit.id == mine.fit_id, *fence(mine.attempt)).values(lease_until=clock(seconds))
    if not execute_change(session, held):
        return False
    insert_epochs(session, mine, epochs)
    return True


def holds(session: Session, message_id: str, worker: str) -> bool:
    """Whether anything that was claimed for this message is still held."""
    return bool(_held_for(session, message_id, worker))


def release_orphaned(session: Session, message_id: str, worker: str) -> bool:
    """Give back what was claimed for this message when the answer to the claim's COMMIT was lost; False if nothing."""
    released = [record(session, key, Released()) for key in _held_for(session, message_id, worker)]
    return any(released)


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
    late = select(Fit.id).where(Fit.id.in_([one.key.fit_id for one in overdue]), Fit.state == State.RUNNING)
    locked = session.scalars(late.order_by(Fit.id).with_for_update()).all()  # in order, so that no two deadlock
    execute_change(session, update(Fit).where(Fit.id.in_(locked)).values(doubted_at=clock(0)))


def expire_lease(session: Session, lease: Lease, error: ErrorRecord) -> bool:
    """Lose the attempt whose lease it is; False if that has been renewed since, or has ended."""
    if not lock_job(session, lease.key.job_id):
        return False
    mine = select(Fit.lease_until).where(Fit.id == lease.key.fit_id, *fence(lease.key.attempt))
    until = session.scalar(mine.with_for_update())  # which waits for a renewal that is under way
    return until == lease.until and record(session, lease.key, Lost(Outcome.LOST, error))


def record_process_death(session: Session, message_id: str, worker: str, lost: Lost) -> bool:
    """Record that the process which worked on this message has died; False if it held no fit (any more)."""
    keys = _held_for(session, message_id, worker)
    if len(keys) == 1:
        return record(session, keys[0], lost)
    if lost.resting_worker:
        rest_worker(session, lost.resting_worker)
    if not keys:
        _explain_loss(session, message_id, worker, lost)
    # A message that came twice may be in the hands of two: their leases will tell which of them is dead.
    return False


def _explain_loss(session: Session, message_id: str, worker: str, lost: Lost) -> None:
    """Housekeeping has seen the lease run out first; now the reason is known."""
    mine = select(Fit.job_id, Attempt).join(Fit, Fit.id == Attempt.fit_id)
    mine = mine.where(Attempt.message_id == message_id, Attempt.worker == worker)
    last = session.execute(mine.order_by(Attempt.started_at.desc()).limit(1)).first()
    if last and last.Attempt.outcome == Outcome.LOST and (job := lock_job(session, last.job_id)):
        last.Attempt.outcome, last.Attempt.error = lost.how, dict(lost.error)
        mark_changed(job, last.Attempt)
        change_job(job)


def _held_for(session: Session, message_id: str, worker: str) -> list[AttemptKey]:
    rows = session.execute(
        select(Fit.job_id, Attempt.fit_id, Attempt.attempt)
        .join(Fit, Fit.id == Attempt.fit_id)
        .where(Attempt.message_id == message_id, Attempt.worker == worker, Attempt.ended_at.is_(None))
    )
    return [AttemptKey(*row) for row in rows]
