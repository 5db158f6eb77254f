"""Trials of a model-based search that can be born: all that they depend on has ended."""

from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.tuning.jobs.tables import ACTIVE_JOB, Job, Origin, State, Trial
from app.tuning.search.models import Value
from app.tuning.search.spec import JobSpec
from app.tuning.search.stored import read_spec_or_none
from app.tuning.search.strategies import TpeSearch
from app.tuning.search.tpe import split_brackets, split_history


class Birth(NamedTuple):
    """A trial to be proposed: by the ended trials, None where one has failed, and those that count as running."""

    job_id: UUID
    spec: JobSpec
    number: int
    history: list[tuple[dict[str, Value], float | None]]
    running: list[dict[str, Value]]


def find_birth(session: Session, job_id: UUID | None = None) -> Birth | None:
    """The next trial of this job, or else of any job, that can be born now."""
    jobs = select(Job.id, Job.spec).where(Job.state.in_(ACTIVE_JOB), Job.unborn > 0)
    jobs = jobs.where(Job.id == job_id) if job_id else jobs
    for found, stored in session.execute(jobs.order_by(Job.fits_running, Job.created_at)).all():
        spec = read_spec_or_none(stored)
        if spec and (birth := _find_birth(session, found, spec)):
            return birth
    return None


def _find_birth(session: Session, job_id: UUID, spec: JobSpec) -> Birth | None:
    columns = (Trial.number, Trial.params, Trial.state, Trial.validation_score, Trial.origin, Trial.bracket)
    rows = session.execute(select(*columns).where(Trial.job_id == job_id).order_by(Trial.number)).all()
    number = next((row.number for row in rows if row.origin == Origin.MODEL and not row.params), None)
    if number is None:
        return None
    if isinstance(spec.search, TpeSearch):
        known, running = split_history(rows, number, spec.search.max_concurrent_trials)
    else:
        known, running = split_brackets(rows, [row.bracket for row in rows], number)
    if any(row.state in (State.QUEUED, State.RUNNING) for row in known):
        return None
    warm = session.scalar(select(Job.warm_points).where(Job.id == job_id)) or ()
    history = [
        *((one["params"], one.get("score", one.get("accuracy"))) for one in warm),  # what older versions called it
        *((_complete(spec, row), row.validation_score) for row in known),
    ]
    return Birth(job_id, spec, number, history, [_complete(spec, row) for row in running])


def _complete(spec: JobSpec, row: Any) -> dict[str, Value]:
    """A given point may leave out what is searched."""
    params: dict[str, Value] = spec.fill(row.params) if row.origin == Origin.GIVEN else row.params
    return params
