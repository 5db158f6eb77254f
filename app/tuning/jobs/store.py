"""Jobs as they come and go; like `claims`, it works inside the caller's transaction and never commits.

Whatever changes a job locks its row first, so that its counters are right and no two changes deadlock.
"""

from collections.abc import Iterator
from datetime import timedelta
from itertools import islice
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import CursorResult, Delete, Update, case, delete, exists, func, insert, literal, select, true
from sqlalchemy.orm import Session

from app.tuning.database import clock
from app.tuning.jobs.tables import Fit, IdempotencyKey, Job, Origin, Place, State, Trial
from app.tuning.jobs.warm_start import read_warm_points
from app.tuning.search.models import Candidate, Candidates
from app.tuning.search.plan import count_fits, estimate_cost, make_plan, rung_folds
from app.tuning.search.rungs import Rung
from app.tuning.search.spec import JobSpec

KEY_LIFETIME = timedelta(hours=24)
ROWS_AT_ONCE = 500  # so that the largest job takes little memory


def insert_job(session: Session, spec: JobSpec, candidates: Candidates) -> Job:
    """Write the job with its trials and fits; places in higher rungs and the refit wait for their trial.

    Raises:
        SpecRejected: it cannot start from the jobs of its `warm_start`.
    """
    plan = make_plan(spec, len(candidates))
    fits = count_fits(spec, plan)
    job = Job(
        id=uuid4(),
        spec=spec.model_dump(mode="json"),
        dataset=spec.dataset.name,
        dataset_sha256=spec.dataset.sha256,
        name=spec.name,
        labels=spec.labels,
        max_parallel_fits=spec.limits.max_parallel_fits,
        trials_total=len(candidates),
        trials_queued=len(candidates),
        fits_total=fits,
        fits_queued=fits,
        cost_left=estimate_cost(spec, plan, [candidate.multiply_adds for candidate in candidates]),
        rungs=[{**rung._asdict(), "state": State.QUEUED} for rung in plan] if spec.resource else None,
        unborn=candidates.unborn,
        warm_points=read_warm_points(session, spec),
        skipped=candidates.skipped,
        created_at=clock(0),
    )
    session.add(job)
    session.flush()
    first_rungs = (rung for rung in plan if rung.iter == 0 for _ in range(rung.n_candidates))
    insert_trials(session, job, enumerate(zip(candidates, first_rungs, strict=True)))
    if job.rungs:
        _insert_first_places(session, job)
    for rung in plan:
        insert = insert_fits if rung.iter == 0 else insert_open_fits
        insert(session, job, spec, rung, rung_folds(spec, plan, rung))
    if spec.evaluation.refit:
        session.add(Fit(job_id=job.id, n_resources=max(rung.n_resources for rung in plan)))
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


def insert_trials(session: Session, job: Job, numbered: Iterator[tuple[int, tuple[Candidate, Rung]]]) -> None:
    """Write trials with these numbers, each in the first rung of its bracket."""
    while some := list(islice(numbered, ROWS_AT_ONCE)):
        session.execute(
            insert(Trial),
            [
                {
                    "job_id": job.id,
                    "number": number,
                    "state": State.QUEUED,
                    "params": one.params,
                    "cost": one.multiply_adds,
                    "origin": Origin(one.origin),
                    "version": job.version,
                    "bracket": rung.bracket,
                    "n_resources": rung.n_resources,
                }
                for number, (one, rung) in some
            ],
        )


def _insert_first_places(session: Session, job: Job) -> None:
    slot = func.row_number().over(partition_by=Trial.bracket, order_by=Trial.number) - 1
    columns = ["job_id", "bracket", "iter", "trial_number", "slot", "ended"]
    rows = select(Trial.job_id, Trial.bracket, literal(0), Trial.number, slot, literal(False))
    session.execute(insert(Place).from_select(columns, rows.where(Trial.job_id == job.id)))


def insert_fits(session: Session, job: Job, spec: JobSpec, rung: Rung, folds: range) -> None:
    """The fits of the trials of a bracket that have none, in its first rung; in a race, some wait."""
    numbers = [select(literal(fold).label("fold")) for fold in folds]
    fold = numbers[0].union_all(*numbers[1:]).subquery() if numbers[1:] else numbers[0].subquery()
    place = func.row_number().over(order_by=(Trial.cost.desc(), Trial.number, fold.c.fold))
    claimable = case((fold.c.fold < spec.race.burn_in, place)) if spec.race else place
    if spec.search.learns:
        claimable = case((Trial.origin != Origin.MODEL, place))
    columns = ["job_id", "trial_number", "fold", "bracket", "n_resources", "position", "iter"]
    columns += ["state", "attempt", "lost_attempts"]
    start = (literal(0), literal(State.QUEUED.value), literal(0), literal(0))
    rows = select(Trial.job_id, Trial.number, fold.c.fold, Trial.bracket, Trial.n_resources, claimable, *start)
    none_yet = ~exists().where(Fit.job_id == job.id, Fit.trial_number == Trial.number)
    mine = (Trial.job_id == job.id, Trial.bracket == rung.bracket, none_yet)
    session.execute(insert(Fit).from_select(columns, rows.join(fold, true()).where(*mine)))


def insert_open_fits(session: Session, job: Job, spec: JobSpec, rung: Rung, folds: range) -> None:
    """The fits of a higher rung, whose trials are not known yet."""
    own = {"job_id": job.id, "bracket": rung.bracket, "iter": rung.iter, "n_resources": rung.n_resources}
    rows = ({**own, "fold": fold, "state": State.QUEUED} for _ in range(rung.n_candidates) for fold in folds)
    while some := list(islice(rows, ROWS_AT_ONCE)):
        session.execute(insert(Fit), some)
