"""A job goes on beyond what was posted. Whoever calls has locked it."""

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import bindparam, select, update
from sqlalchemy.orm import Session

from app.tuning.jobs.attempts import mark_attempts_changed
from app.tuning.jobs.control import NotPossible, reopen_job
from app.tuning.jobs.counters import TRIALS, count, next_version
from app.tuning.jobs.outcomes import end_search
from app.tuning.jobs.rungs import change_rung
from app.tuning.jobs.steps import advance_rungs
from app.tuning.jobs.store import execute_change, insert_fits, insert_open_fits, insert_trials
from app.tuning.jobs.tables import Fit, Job, JobState, State, Trial
from app.tuning.search.extension import POST_AGAIN, check_plan
from app.tuning.search.models import Candidate, Candidates
from app.tuning.search.plan import cost_share, make_plan, rung_folds
from app.tuning.search.rejections import SpecRejected
from app.tuning.search.spec import JobSpec
from app.tuning.search.strategies import TpeSearch


def extend_job(session: Session, job: Job, was: JobSpec, spec: JobSpec, candidates: Candidates) -> None:
    """Make the job that was posted as `was` one that was posted as `spec`, whose candidates these are.

    Raises:
        NotPossible: the job is cancelled or being cancelled, or its winner is being trained.
        SpecRejected: the rows would not be the same.
    """
    if job.state in (JobState.CANCELLING, JobState.CANCELLED):
        raise NotPossible(f"The job is {job.state}: {POST_AGAIN}.")
    if job.trials_cancelled:
        raise NotPossible(f"Trials of the job were cancelled when it failed or had used up its space: {POST_AGAIN}.")
    reopen_job(session, job)
    if spec.resource:
        _add_rungs(session, job, was, spec, candidates)
    else:
        _add_trials(session, job, spec, candidates)
    job.spec = spec.model_dump(mode="json")
    job.skipped = candidates.skipped
    if not job.trials_queued + job.trials_running:  # there was nothing to add, or nobody goes on
        end_search(session, job, spec)


def _add_trials(session: Session, job: Job, spec: JobSpec, candidates: list[Candidate]) -> None:
    """Give the trials that there are their numbers among all candidates, and write the others."""
    added = _renumber_trials(session, job, spec, candidates)
    [rung] = make_plan(spec, len(candidates))
    insert_trials(session, job, ((number, (candidates[number], rung)) for number in added))
    insert_fits(session, job, spec, rung, range(spec.folds))
    job.trials_total += len(added)
    job.trials_queued += len(added)
    job.unborn += sum(candidates[number].is_unborn for number in added)
    job.fits_total += len(added) * spec.folds
    job.fits_queued += len(added) * spec.folds
    job.cost_left += sum(candidates[number].multiply_adds for number in added) * spec.train_share * spec.folds


def _renumber_trials(session: Session, job: Job, spec: JobSpec, candidates: list[Candidate]) -> list[int]:
    """Renumber the job's trials; the numbers of the candidates that have none yet.

    Raises:
        SpecRejected: a trial is not among the candidates.
    """
    rejection = SpecRejected([((), f"it must contain all that has been searched; otherwise {POST_AGAIN}")])
    if isinstance(spec.search, TpeSearch):  # what a model has proposed is not among the candidates
        if len(candidates) < job.trials_total:
            raise rejection
        return list(range(job.trials_total, len(candidates)))
    mine = select(Trial.number, Trial.params).where(Trial.job_id == job.id).order_by(Trial.number)
    known = [(row.number, _name(row.params)) for row in session.execute(mine)]
    places: dict[str, list[int]] = {}
    for number, candidate in reversed(list(enumerate(candidates))):
        places.setdefault(_name(candidate.params), []).append(number)
    try:
        moves = [(old, places[name].pop()) for old, name in known]
    except (KeyError, IndexError):
        raise rejection from None
    _renumber(session, job, moves)
    return sorted(number for numbers in places.values() for number in numbers)


def _name(params: Any) -> str:
    return json.dumps(params, sort_keys=True)


def _renumber(session: Session, job: Job, moves: Sequence[tuple[int, int]]) -> None:
    moves = [(old, new) for old, new in moves if old != new]
    if not moves:
        return
    rows = [{"old": old, "new": -1 - new} for old, new in moves]  # by way of numbers that nobody has
    session.flush()
    for table, column in ((Trial, Trial.number), (Fit, Fit.trial_number)):
        one = update(table).where(table.job_id == job.id, column == bindparam("old"))
        session.connection().execute(one.values({column: bindparam("new")}), rows)
        there = update(table).where(table.job_id == job.id, column < 0)
        execute_change(session, there.values({column: -1 - column}))
    execute_change(session, update(Trial).where(Trial.job_id == job.id).values(version=next_version(job)))
    mark_attempts_changed(session, job)
    job.best_trial = dict(moves).get(job.best_trial, job.best_trial) if job.best_trial is not None else None
    session.flush()
    session.expire_all()


def _add_rungs(session: Session, job: Job, was: JobSpec, spec: JobSpec, candidates: list[Candidate]) -> None:
    """Add rungs above the last one, whose trials go on or are out."""
    check_plan(was, spec, len(candidates), job.trials_total)
    plan, before = make_plan(spec, len(candidates)), len(job.rungs or ())
    last = plan[before - 1]
    ended = update(Trial).where(Trial.job_id == job.id, Trial.state == State.SUCCEEDED, Trial.iter == last.iter)
    again = ended.values(state=State.RUNNING, version=next_version(job))
    count(job, TRIALS, State.SUCCEEDED, State.RUNNING, execute_change(session, again))
    for rung in plan[before:]:
        folds = rung_folds(spec, plan, rung)
        insert_open_fits(session, job, spec, rung, folds)
        fits = rung.n_candidates * len(folds)
        job.fits_total += fits
        job.fits_queued += fits
        mean = sum(one.multiply_adds for one in candidates) / len(candidates)
        job.cost_left += mean * fits * spec.train_share * cost_share(spec, plan, rung)
    job.rungs = [*(job.rungs or ()), *({**rung._asdict(), "state": State.QUEUED} for rung in plan[before:])]
    change_rung(job, last.bracket, last.iter, state=State.RUNNING)
    costs = [{"n": number, "c": one.multiply_adds} for number, one in enumerate(candidates)]
    one = update(Trial).where(Trial.job_id == job.id, Trial.number == bindparam("n")).values(cost=bindparam("c"))
    session.flush()
    session.connection().execute(one, costs)
    refit = update(Fit).where(Fit.job_id == job.id, Fit.fold.is_(None))
    execute_change(session, refit.values(n_resources=plan[-1].n_resources))
    session.flush()
    advance_rungs(session, job, spec, last.bracket, last.iter)
