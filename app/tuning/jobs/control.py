"""What a client asks of a job besides cancelling it: to pause, to go on, to train failed fits again.

Whoever calls has locked the job.
"""

from typing import Any

from sqlalchemy import ColumnElement, delete, exists, func, select, update
from sqlalchemy.orm import Session

from app.tuning.jobs.attempts import mark_attempts_changed
from app.tuning.jobs.counters import FITS, count, move_trial
from app.tuning.jobs.datasets import hold_content
from app.tuning.jobs.outcomes import change_job, end_search
from app.tuning.jobs.store import execute_change
from app.tuning.jobs.tables import ACTIVE_JOB, EpochRow, Fit, Job, JobState, State, Trial
from app.tuning.search.spec import JobSpec
from app.tuning.search.stored import read_spec

FRESH: dict[str, Any] = {
    "state": State.QUEUED,
    "lost_attempts": 0,
    "worker": None,
    "started_at": None,
    "ended_at": None,
    **dict.fromkeys(("score", "accuracy", "loss", "confusion", "fit_seconds", "score_seconds", "hits")),
    **dict.fromkeys(("key", "resumed_from", "error")),
    "cached": False,
}


class NotPossible(Exception):
    """The job is not in a state, or not of a kind, for what is asked; the message says what would be right."""


def pause(job: Job) -> None:
    """Let nothing more be claimed; what is running is released with its next report.

    Raises:
        NotPossible: the job has ended, or is being cancelled.
    """
    if job.state == JobState.PAUSED:
        return
    if job.state not in ACTIVE_JOB:
        raise NotPossible(f"The job is {job.state}: only queued and running jobs can be paused.")
    change_job(job, JobState.PAUSED)


def resume(job: Job) -> None:
    """Go on with a paused job.

    Raises:
        NotPossible: the job has ended, or is being cancelled.
    """
    if job.state in ACTIVE_JOB:
        return
    if job.state != JobState.PAUSED:
        raise NotPossible(f"The job is {job.state}: only paused jobs can be resumed.")
    change_job(job, JobState.RUNNING if job.started_at else JobState.QUEUED)


def retry_failed_fits(session: Session, job: Job) -> None:
    """Queue the failed fits again, and with them the refit, since another trial may win now.

    Raises:
        NotPossible: no fit has failed, the job is cancelled or being cancelled, or its search has moved on by them.
        UnreadableSpec: another version of Tunewell has written the job.
    """
    spec = read_spec(job.spec)
    if job.state in (JobState.CANCELLING, JobState.CANCELLED):
        raise NotPossible(f"The job is {job.state}: post it again; what it has trained is not trained again.")
    if not job.fits_failed:
        raise NotPossible("No fit of the job has failed.")
    if spec.is_adaptive:
        raise NotPossible("The search has gone on from the failure: post the job again; equal fits are not retrained.")
    reopen_job(session, job)
    _reopen_trials(session, job, spec)
    _queue_again(session, job, Fit.fold.is_not(None), Fit.state == State.FAILED)
    if not job.trials_queued + job.trials_running:  # only the refit has failed
        end_search(session, job, spec)


def reopen_job(session: Session, job: Job) -> None:
    """Let a job that may have ended go on; its refit waits for the winner again.

    Raises:
        NotPossible: the winner is being trained on all samples, or the data set has been deleted.
    """
    if not hold_content(session, job.dataset_sha256):
        raise NotPossible(f"The data set {job.dataset} has been deleted: upload the same file again, then try again.")
    refit = (Fit.job_id == job.id, Fit.fold.is_(None))
    if session.scalar(select(exists().where(*refit, Fit.state == State.RUNNING))):
        raise NotPossible("The winner is being trained on all samples: try again once the job has ended.")
    _queue_again(session, job, Fit.fold.is_(None), Fit.state != State.QUEUED)
    execute_change(session, update(Fit).where(*refit).values(trial_number=None, position=None))
    job.error = job.selection = job.saved_model = job.ended_at = None
    going = job.state if job.state in (*ACTIVE_JOB, JobState.PAUSED) else JobState.RUNNING
    change_job(job, going)


def _reopen_trials(session: Session, job: Job, spec: JobSpec) -> None:
    """Trials with failed folds are running again; what these cost is yet to be trained."""
    failed = select(Fit.trial_number, func.count()).where(
        Fit.job_id == job.id, Fit.state == State.FAILED, Fit.fold.is_not(None)
    )
    folds = {number: folds for number, folds in session.execute(failed.group_by(Fit.trial_number))}
    for trial in session.scalars(select(Trial).where(Trial.job_id == job.id, Trial.state == State.FAILED)):
        trial.error = trial.fit_seconds = None
        move_trial(job, trial, State.RUNNING)
        job.cost_left += trial.cost * spec.train_share * folds.get(trial.number, 0)


def _queue_again(session: Session, job: Job, *which: ColumnElement[bool]) -> None:
    """Queue ended fits, as if they had never been claimed; their attempts are kept."""
    mark_attempts_changed(session, job, *which)
    for fit in session.scalars(select(Fit).where(Fit.job_id == job.id, *which)):
        count(job, FITS, fit.state, State.QUEUED)
        execute_change(session, delete(EpochRow).where(EpochRow.fit_id == fit.id))
        for name, value in FRESH.items():
            setattr(fit, name, value)
