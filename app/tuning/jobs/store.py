"""Jobs as they come and go; like `claims`, it works inside the caller's transaction and never commits.

Whatever changes a job locks its row first, so that its counters are right and no two changes deadlock.
"""

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import CursorResult, Delete, Update, delete, func, insert, literal, select, true
from sqlalchemy.orm import Session

from app.tuning.database import clock
from app.tuning.jobs.tables import Fit, IdempotencyKey, Job, State, Trial
from app.tuning.search.models import Candidate
from app.tuning.search.spec import JobSpec

KEY_LIFETIME = timedelta(hours=24)
ROWS_AT_ONCE = 500  # so that the largest job takes little memory


def insert_job(session: Session, spec: JobSpec, candidates: list[Candidate]) -> Job:
    """Write the job with its trials and fits; the refit waits without a trial until there is a winner."""
    costs = [candidate.multiply_adds for candidate in candidates]
    fits = len(candidates) * spec.folds + spec.evaluation.refit
    job = Job(
        id=uuid4(),
        spec=spec.model_dump(mode="json"),
        dataset=spec.dataset.name,
        max_parallel_fits=spec.limits.max_parallel_fits,
        trials_total=len(candidates),
        trials_queued=len(candidates),
        fits_total=fits,
        fits_queued=fits,
        cost_left=sum(costs) * spec.train_share * spec.folds + max(costs) * spec.evaluation.refit,
        created_at=clock(0),
    )
    session.add(job)
    session.flush()
    _insert_trials(session, job, candidates)
    _insert_fits(session, job, spec)
    session.refresh(job)
    return job


def lock_job(session: Session, job_id: UUID, skip_locked: bool = False) -> Job | None:
    """The job, which nobody else changes until this transaction ends; None if there is none.

    With `skip_locked`, None too while somebody else holds it, so that nobody waits.
    """
    mine = select(Job).where(Job.id == job_id).with_for_update(skip_locked=skip_locked)
    return session.scalar(mine.execution_options(populate_existing=True))


def find_remembered(session: Session, key: str) -> IdempotencyKey | None:
    """The first answer given to a POST with this key."""
    return session.get(IdempotencyKey, key)


def remember(session: Session, key: str, body_sha256: str, answer: str) -> None:
    """Keep the answer in the very transaction that makes the job.

    Raises:
        sqlalchemy.exc.IntegrityError: another POST with this key has come first.
    """
    session.add(IdempotencyKey(key=key, body_sha256=body_sha256, answer=answer, created_at=clock(0)))
    session.flush()


def forget_old_keys(session: Session) -> None:
    """Drop the keys that are older than a day."""
    oldest = clock(-KEY_LIFETIME.total_seconds())
    execute_change(session, delete(IdempotencyKey).where(IdempotencyKey.created_at < oldest))


def execute_change(session: Session, statement: Update | Delete) -> int:
    """Execute a conditional change and tell how many rows it found."""
    done: CursorResult[Any] = session.execute(statement, execution_options={"synchronize_session": False})  # type: ignore[assignment]
    return done.rowcount


def _insert_trials(session: Session, job: Job, candidates: list[Candidate]) -> None:
    for first in range(0, len(candidates), ROWS_AT_ONCE):
        rows = [
            {"job_id": job.id, "number": number, "state": State.QUEUED, "params": one.params, "cost": one.multiply_adds}
            for number, one in enumerate(candidates[first : first + ROWS_AT_ONCE], first)
        ]
        session.execute(insert(Trial), rows)


def _insert_fits(session: Session, job: Job, spec: JobSpec) -> None:
    folds = [select(literal(fold).label("fold")) for fold in range(spec.folds)]
    fold = folds[0].union_all(*folds[1:]).subquery() if folds[1:] else folds[0].subquery()
    place = func.row_number().over(order_by=(Trial.cost.desc(), Trial.number, fold.c.fold))
    columns = ["job_id", "trial_number", "fold", "position", "state", "attempt", "lost_attempts"]
    rows = select(Trial.job_id, Trial.number, fold.c.fold, place, literal(State.QUEUED.value), literal(0), literal(0))
    session.execute(insert(Fit).from_select(columns, rows.join(fold, true()).where(Trial.job_id == job.id)))
    if spec.evaluation.refit:
        session.add(Fit(job_id=job.id))
