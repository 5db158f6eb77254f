"""What a fit's end means for its trial and for its job; the job is locked by whoever calls."""

from typing import Any

import numpy as np
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.tuning.jobs.store import cancel_fits, execute_change, move
from app.tuning.jobs.tables import Fit, Job, JobState, State, Trial
from app.tuning.search.stored import read_spec_or_none


def count_cost(job: Job, fit: Fit, trial: Trial) -> None:
    """Keep the sums that the time left is estimated from."""
    spec = read_spec_or_none(job.spec) if fit.fold is not None else None
    cost = trial.cost * (spec.train_share if spec else 1)
    job.cost_left = max(0.0, job.cost_left - cost)
    if fit.state == State.SUCCEEDED:
        job.cost_done += cost
        job.seconds_done += (fit.fit_seconds or 0.0) + (fit.score_seconds or 0.0)


def end_trial(session: Session, job: Job, trial: Trial) -> bool:
    """End the trial if all its folds have ended; True if it has succeeded."""
    mine = (Fit.job_id == job.id, Fit.trial_number == trial.number, Fit.fold.is_not(None))
    fits = session.scalars(select(Fit).where(*mine).order_by(Fit.fold)).all()
    states = {fit.state for fit in fits}
    if states & {State.QUEUED, State.RUNNING}:
        return False
    trial.fit_seconds = sum(fit.fit_seconds or 0.0 for fit in fits)
    if states == {State.SUCCEEDED}:
        accuracies = np.array([fit.accuracy for fit in fits], dtype=np.float64)
        # scikit-learn's own two lines (`_format_results`), so that the last digit agrees too.
        mean = np.average(accuracies)
        trial.validation_accuracy = float(mean)
        trial.validation_accuracy_std = float(np.sqrt(np.average((accuracies - mean) ** 2)))
        move_trial(job, trial, State.SUCCEEDED)
        return True
    trial.error = next((fit.error for fit in fits if fit.error), None)
    move_trial(job, trial, State.CANCELLED if State.CANCELLED in states else State.FAILED)
    return False


def move_trial(job: Job, trial: Trial, state: State) -> None:
    """Give the trial another state, in its row and in its job's counters."""
    move(job, "trials", trial.state, state)
    trial.state = state


def is_best(job: Job, trial: Trial) -> bool:
    """The first of the best rank, as in scikit-learn."""
    assert trial.validation_accuracy is not None
    if job.best_accuracy is None or job.best_trial is None:
        return True
    return (-trial.validation_accuracy, trial.number) < (-job.best_accuracy, job.best_trial)


def advance_job(session: Session, job: Job, fit: Fit) -> None:
    """Move the job on: to its refit when the search is over, to its end when nothing is left."""
    spec = read_spec_or_none(job.spec)
    most_failed = spec.limits.max_failed_trials if spec else None
    if job.state == JobState.CANCELLING:
        job.state = job.state if job.fits_running else JobState.CANCELLED
    elif fit.fold is None:
        job.state = JobState.SUCCEEDED if fit.state == State.SUCCEEDED else JobState.FAILED
        job.error = fit.error
    elif most_failed is not None and job.trials_failed > most_failed:
        told = f"{job.trials_failed} trials failed, and max_failed_trials is {most_failed}"
        fail_job(session, job, {"type": "TooManyFailedTrials", "message": told, "traceback": None})
    elif not job.trials_queued + job.trials_running:
        _end_search(session, job)


def _end_search(session: Session, job: Job) -> None:
    if job.best_trial is None:
        reason = session.scalar(select(Trial.error).where(Trial.job_id == job.id).order_by(Trial.number).limit(1))
        told = f"none of {job.trials_total} trials succeeded; the first: {(reason or {}).get('message')}"
        fail_job(session, job, {"type": "NoTrialSucceeded", "message": told, "traceback": None})
    elif not execute_change(
        session, update(Fit).where(*_unready_refit(job)).values(trial_number=job.best_trial, position=0)
    ):
        job.state = JobState.SUCCEEDED
    else:
        job.cost_left = session.get_one(Trial, (job.id, job.best_trial)).cost


def _unready_refit(job: Job) -> tuple[Any, ...]:
    return Fit.job_id == job.id, Fit.fold.is_(None), Fit.trial_number.is_(None), Fit.state == State.QUEUED


def fail_job(session: Session, job: Job, error: dict[str, Any]) -> None:
    """End the job now: what is queued and what is running is cancelled, and late results find their fits closed."""
    cancel_fits(session, job, State.RUNNING)
    cancel_fits(session, job, State.QUEUED)
    job.state, job.error = JobState.FAILED, error
