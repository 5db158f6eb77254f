"""What the start and the end of an attempt mean for its fit, its trial and its job.

Nothing else writes a job's state and version. Whoever calls has locked the job, or has it locked here first.
"""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import numpy as np
from sqlalchemy import delete, exists, select, update
from sqlalchemy.orm import Session

from app.tuning.database import clock
from app.tuning.jobs.attempts import (
    AttemptKey,
    Cancelled,
    End,
    Epochs,
    ErrorRecord,
    Failed,
    Finished,
    Lost,
    Released,
    Result,
    Unavailable,
    close_attempt,
    fence,
    insert_epochs,
    mark_attempts_changed,
    outcome_of,
)
from app.tuning.jobs.counters import FITS, TRIALS, count, mark_changed, move_trial, next_version
from app.tuning.jobs.rungs import find_rung, read_plan, record_place, start_rung
from app.tuning.jobs.steps import advance_search, find_winner
from app.tuning.jobs.store import execute_change, lock_job
from app.tuning.jobs.tables import ACTIVE_JOB, ENDED_JOB, Attempt, EpochRow, Fit, Job, JobState, Outcome, State, Trial
from app.tuning.jobs.workers import may_be_trained, note_absence, rest_worker
from app.tuning.search.models import Candidate
from app.tuning.search.plan import cost_share
from app.tuning.search.spec import JobSpec
from app.tuning.search.stored import read_spec_or_none

MAX_LOST_ATTEMPTS = 3


def start_fit(job: Job, trial: Trial, fit: Fit) -> None:
    """Count a fit that has just been claimed."""
    if trial.state == State.QUEUED:
        move_trial(job, trial, State.RUNNING)
    count(job, FITS, State.QUEUED, State.RUNNING)
    start_rung(job, fit)
    job.last_claim_at, job.parallel_fits = fit.started_at, job.fits_running
    job.started_at = job.started_at or fit.started_at
    change_job(job, JobState.RUNNING)


def record(session: Session, key: AttemptKey, end: End) -> bool:
    """Record how an attempt ended; False, with nothing written, if the fit is no longer that attempt's.

    Idempotent: recording again what a commit whose response was lost has recorded changes nothing.
    """
    match end:
        case Finished(result, epochs):
            return _end_fit(session, key, State.SUCCEEDED, end, result=result, epochs=epochs)
        case Failed(error, epochs):
            return _end_fit(session, key, State.FAILED, end, error=error, epochs=epochs)
        case Cancelled():
            return _end_fit(session, key, State.CANCELLED, end)
        case Released():
            return _requeue(session, key, end)
        case Unavailable():
            return _requeue_elsewhere(session, key, end)
        case Lost():
            return _retry_or_give_up(session, key, end)


def record_birth(session: Session, job_id: UUID, number: int, candidate: Candidate | None) -> bool:
    """Give a trial its hyperparameters, so that it can be trained; without any the search ends before it.

    False if the trial has been born, or its job does not go on. Idempotent.
    """
    job, trial = lock_job(session, job_id), session.get(Trial, (job_id, number))
    if not job or not trial or trial.params or not job.unborn or job.state not in ACTIVE_JOB:
        return False
    fits = update(Fit).where(Fit.job_id == job_id, Fit.fold.is_not(None), Fit.state == State.QUEUED)
    if candidate:
        trial.params, trial.cost = dict(candidate.params), candidate.multiply_adds
        mark_changed(job, trial)
        execute_change(session, fits.where(Fit.trial_number == number).values(position=number))
        job.unborn -= 1
    else:
        used_up = {"type": "SpaceUsedUp", "message": "every allowed point has been searched", "traceback": None}
        cancelled = fits.where(Fit.trial_number >= number).values(state=State.CANCELLED, ended_at=clock(0))
        count(job, FITS, State.QUEUED, State.CANCELLED, execute_change(session, cancelled))
        rest = update(Trial).where(Trial.job_id == job_id, Trial.number >= number, Trial.state == State.QUEUED)
        ended = rest.values(state=State.CANCELLED, error=used_up, version=next_version(job))
        count(job, TRIALS, State.QUEUED, State.CANCELLED, execute_change(session, ended))
        job.unborn = 0
    change_job(job)
    if not job.trials_queued + job.trials_running:
        end_search(session, job, read_spec_or_none(job.spec))
    return True


def cancel_job(session: Session, job: Job) -> None:
    """Cancel what is queued at once; what is running learns of it with its next report."""
    _cancel_fits(session, job, State.QUEUED)
    change_job(job, JobState.CANCELLING if job.fits_running else JobState.CANCELLED)


def change_job(job: Job, state: JobState | None = None) -> None:
    """Note that clients will see a difference, such as another state, and when the job ended if it has."""
    job.version += 1
    job.state = state or job.state
    if job.state in ENDED_JOB and not job.ended_at:
        job.ended_at = clock(0)


def _end_fit(
    session: Session,
    key: AttemptKey,
    state: State,
    end: End,
    result: Result | None = None,
    error: ErrorRecord | None = None,
    epochs: Epochs = (),
) -> bool:
    job = lock_job(session, key.job_id)
    fit = _close_fit(session, key, state, result, error) if job else None
    if not job or not fit:
        # The response to an earlier commit may have been lost: what this attempt has recorded is recorded.
        again = (Fit.id == key.fit_id, Fit.attempt == key.attempt, Fit.state == state)
        return bool(session.scalar(select(exists().where(*again))))
    environment = result.environment if result else None
    close_attempt(session, job, key, outcome_of(end), error, (environment or {}).get("processor"))
    insert_epochs(session, key, epochs)
    trial = session.get_one(Trial, (job.id, fit.trial_number), populate_existing=True)
    with session.no_autoflush:  # the job's row is written once
        count(job, FITS, State.RUNNING, state)
        spec = read_spec_or_none(job.spec)
        _add_cost(job, fit, trial, spec)
        if result:
            _note_result(job, result)
        if fit.is_refit:
            job.environment = environment or job.environment
            job.saved_model = dict(result.model) if result and result.model else None
        elif _end_trial(session, job, trial, fit, spec) and _is_best(session, job, trial):
            _note_best(job, trial)
            job.environment = environment
    _advance_job(session, job, fit, spec)
    return True


def _note_best(job: Job, trial: Trial | None) -> None:
    job.best_trial = trial.number if trial else None
    job.best_score = trial.validation_score if trial else None
    job.best_accuracy = trial.validation_accuracy if trial else None


def _note_result(job: Job, result: Result) -> None:
    job.epochs_trained += result.epochs - result.epochs_reused
    job.epochs_reused += result.epochs_reused
    job.selection = result.selection or job.selection
    mine, known = result.environment.get("processor"), (job.environment or {}).get("processor")
    if known and mine != known:
        job.irreproducible = f"trained on different kinds of processor: {known} and {mine}"


def _close_fit(
    session: Session, key: AttemptKey, state: State, result: Result | None, error: ErrorRecord | None
) -> Fit | None:
    values: dict[str, Any] = {"state": state, "lease_until": None, "ended_at": clock(0)}
    if result:
        own = ("accuracy", "loss", "confusion", "fit_seconds", "score_seconds", "hits", "key", "cached", "resumed_from")
        values |= {"score": result.final_score, **{name: getattr(result, name) for name in own}}
    if error:
        values["error"] = error
    closed = update(Fit).where(Fit.id == key.fit_id, *fence(key.attempt)).values(values).returning(Fit)
    fit = session.scalar(closed, execution_options={"synchronize_session": False, "populate_existing": True})
    if fit and state == State.FAILED and fit.started_at and fit.ended_at:
        # As scikit-learn has it with `error_score`: the time until it failed, and none of scoring.
        fit.fit_seconds, fit.score_seconds = max(0.0, (fit.ended_at - fit.started_at).total_seconds()), 0.0
    return fit


def _retry_or_give_up(session: Session, key: AttemptKey, lost: Lost) -> bool:
    job, fit = lock_job(session, key.job_id), session.get(Fit, key.fit_id)
    if not job or not fit:
        return False
    last = fit.lost_attempts + 1 >= MAX_LOST_ATTEMPTS
    if last and job.state != JobState.CANCELLING and read_spec_or_none(job.spec):
        message = f"given up after {MAX_LOST_ATTEMPTS} lost attempts, the last one: {lost.error['message']}"
        error: ErrorRecord = {**lost.error, "message": message}
        job.irreproducible = f"trial {fit.trial_number} was given up after {MAX_LOST_ATTEMPTS} lost attempts"
        recorded = _end_fit(session, key, State.FAILED, lost, error=error)
    else:
        recorded = _requeue(session, key, lost, lost.error, lost=1)
    if lost.resting_worker:
        rest_worker(session, lost.resting_worker)
    return recorded


def _requeue_elsewhere(session: Session, key: AttemptKey, end: Unavailable) -> bool:
    """Requeue the fit for workers that have its data; the job fails where none may have them."""
    requeued = _requeue(session, key, end, end.error)
    note_absence(session, end.worker, end.dataset)
    job = lock_job(session, key.job_id)
    if requeued and job and job.state in ACTIVE_JOB:
        job.dataset = end.dataset
        if not may_be_trained(session, job, end.worker):
            _fail_job(session, job, end.error)
    return requeued


def _requeue(session: Session, key: AttemptKey, end: End, error: ErrorRecord | None = None, lost: int = 0) -> bool:
    job = lock_job(session, key.job_id)
    if job and job.state == JobState.CANCELLING:
        return _end_fit(session, key, State.CANCELLED, end)
    again = {"state": State.QUEUED, "lease_until": None, "worker": None, "started_at": None}
    requeued = update(Fit).where(Fit.id == key.fit_id, *fence(key.attempt)).values(again)
    if not job or not execute_change(session, requeued.values(lost_attempts=Fit.lost_attempts + lost)):
        return False
    close_attempt(session, job, key, outcome_of(end), error)
    execute_change(session, delete(EpochRow).where(EpochRow.fit_id == key.fit_id))
    count(job, FITS, State.RUNNING, State.QUEUED)
    change_job(job)
    return True


def _add_cost(job: Job, fit: Fit, trial: Trial, spec: JobSpec | None) -> None:
    """Keep the sums that the time left is estimated from."""
    share = 1.0
    if spec and not fit.is_refit:
        plan = read_plan(job)
        mine = next((rung for rung in plan if (rung.bracket, rung.iter) == (fit.bracket, fit.iter)), None)
        share = spec.train_share * (cost_share(spec, plan, mine) if mine else 1.0)
    cost = trial.cost * share
    job.cost_left = max(0.0, job.cost_left - cost)
    if fit.state == State.SUCCEEDED and not fit.cached:
        job.cost_done += cost
        job.seconds_done += (fit.fit_seconds or 0.0) + (fit.score_seconds or 0.0)


def _end_trial(session: Session, job: Job, trial: Trial, fit: Fit, spec: JobSpec | None) -> bool:
    """End the trial, or its part in this rung, if all folds have ended; True if they have succeeded."""
    mine = (Fit.job_id == job.id, Fit.trial_number == trial.number, Fit.fold.is_not(None))
    fits = session.scalars(select(Fit).where(*mine).order_by(Fit.iter, Fit.fold)).all()
    states = {one.state for one in fits}
    if states & {State.QUEUED, State.RUNNING}:
        return False
    trial.fit_seconds = sum(one.fit_seconds or 0.0 for one in fits)
    mark_changed(job, trial)
    if states == {State.SUCCEEDED}:
        # Where folds are what grows, a rung adds some to those of the rungs below.
        scored = [one for one in fits if one.iter == fit.iter or (spec and spec.resource == "folds")]
        trial.validation_score, trial.validation_score_std = _summarize([one.score for one in scored])
        trial.validation_accuracy, trial.validation_accuracy_std = _summarize([one.accuracy for one in scored])
        record_place(session, job, trial, fit)
        if not find_rung(job, fit.bracket, fit.iter + 1):
            move_trial(job, trial, State.SUCCEEDED)
        elif job.state == JobState.CANCELLING:  # the next rung will not be trained
            move_trial(job, trial, State.CANCELLED)
        return True
    trial.error = next((one.error for one in fits if one.error), None)
    trial.validation_score = trial.validation_score_std = None
    trial.validation_accuracy = trial.validation_accuracy_std = None
    record_place(session, job, trial, fit)
    move_trial(job, trial, State.CANCELLED if State.CANCELLED in states else State.FAILED)
    if job.best_trial == trial.number:  # as it was in a lower rung
        session.flush()
        _choose_best(session, job)
    return False


def _summarize(folds: Sequence[float | None]) -> tuple[float, float] | tuple[None, None]:
    """The mean and the population's standard deviation of the folds; None where a fold has no such score."""
    known = [value for value in folds if value is not None]
    if len(known) < len(folds):
        return None, None
    values = np.array(known, dtype=np.float64)
    # scikit-learn's own two lines (`_format_results`), so that the last digit agrees too.
    mean = np.average(values)
    return float(mean), float(np.sqrt(np.average((values - mean) ** 2)))


def _choose_best(session: Session, job: Job) -> None:
    """The best so far: the first of the best of those with the most resources."""
    known = select(Trial).where(Trial.job_id == job.id, Trial.validation_score.is_not(None))
    order = (Trial.n_resources.desc(), Trial.validation_score.desc(), Trial.number)
    _note_best(job, session.scalar(known.order_by(*order).limit(1)))


def _is_best(session: Session, job: Job, trial: Trial) -> bool:
    """The first of the best rank, as in scikit-learn; more resources count more than any score."""
    best = session.get(Trial, (job.id, job.best_trial)) if job.best_trial is not None else None
    return best is None or best is trial or _rank(trial) < _rank(best)


def _rank(trial: Trial) -> tuple[int, float, int]:
    assert trial.validation_score is not None
    return -trial.n_resources, -trial.validation_score, trial.number


def _advance_job(session: Session, job: Job, fit: Fit, spec: JobSpec | None) -> None:
    """Move the job on: to its refit when the search is over, to its end when nothing is left."""
    max_failed = spec.limits.max_failed_trials if spec else None
    if spec and job.state in (*ACTIVE_JOB, JobState.PAUSED) and not fit.is_refit:
        advance_search(session, job, spec, fit)
    if job.state == JobState.CANCELLING:
        change_job(job, None if job.fits_running else JobState.CANCELLED)
    elif fit.is_refit:
        job.error = fit.error
        change_job(job, JobState.SUCCEEDED if fit.state == State.SUCCEEDED else JobState.FAILED)
    elif max_failed is not None and job.trials_failed > max_failed:
        message = f"{job.trials_failed} trials failed, and max_failed_trials is {max_failed}"
        _fail_job(session, job, {"type": "TooManyFailedTrials", "message": message, "traceback": None})
    elif job.trials_queued + job.trials_running:
        change_job(job)
    else:
        end_search(session, job, spec)


def end_search(session: Session, job: Job, spec: JobSpec | None) -> None:
    """Choose the winner, all trials having ended: let its refit in, or end the job."""
    if job.rungs or (spec and spec.select != "best"):
        number = find_winner(session, job, spec)
        _note_best(job, session.get_one(Trial, (job.id, number)) if number is not None else None)
    if job.best_trial is None:
        first = session.scalar(select(Trial.error).where(Trial.job_id == job.id).order_by(Trial.number).limit(1))
        message = f"none of {job.trials_total} trials succeeded; the first: {(first or {}).get('message')}"
        _fail_job(session, job, {"type": "NoTrialSucceeded", "message": message, "traceback": None})
        return
    refit = (Fit.job_id == job.id, Fit.fold.is_(None), Fit.trial_number.is_(None), Fit.state == State.QUEUED)
    if execute_change(session, update(Fit).where(*refit).values(trial_number=job.best_trial, position=0)):
        job.cost_left = session.get_one(Trial, (job.id, job.best_trial)).cost
        mark_attempts_changed(session, job, Fit.fold.is_(None))  # it has some if the winner was another one before
        change_job(job)
    else:
        change_job(job, JobState.SUCCEEDED)


def _fail_job(session: Session, job: Job, error: ErrorRecord) -> None:
    """End the job now: what is queued and what is running is cancelled, and late results find their fits closed."""
    _cancel_fits(session, job, State.RUNNING)
    _cancel_fits(session, job, State.QUEUED)
    job.error = dict(error)
    change_job(job, JobState.FAILED)


def _cancel_fits(session: Session, job: Job, state: State) -> None:
    """Cancel the job's fits in this state, and the trials that have nothing running any more."""
    if state == State.RUNNING:
        mine = select(Fit.id).where(Fit.job_id == job.id, Fit.state == State.RUNNING)
        open_attempts = update(Attempt).where(Attempt.fit_id.in_(mine), Attempt.ended_at.is_(None))
        values = {"outcome": Outcome.CANCELLED, "ended_at": clock(0), "version": next_version(job)}
        execute_change(session, open_attempts.values(values))
    cancelled = {"state": State.CANCELLED, "lease_until": None, "ended_at": clock(0)}
    fits = update(Fit).where(Fit.job_id == job.id, Fit.state == state).values(cancelled)
    count(job, FITS, state, State.CANCELLED, execute_change(session, fits))
    running = exists().where(Fit.job_id == job.id, Fit.trial_number == Trial.number, Fit.state == State.RUNNING)
    for old in (State.QUEUED, State.RUNNING):
        idle = update(Trial).where(Trial.job_id == job.id, Trial.state == old, ~running)
        ended = idle.values(state=State.CANCELLED, version=next_version(job))
        count(job, TRIALS, old, State.CANCELLED, execute_change(session, ended))
