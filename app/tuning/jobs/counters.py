"""A job's counters of its trials and fits by state."""

from collections.abc import Mapping

from sqlalchemy.orm import InstrumentedAttribute

from app.tuning.jobs.tables import Attempt, Job, State, Trial

Counters = Mapping[State, InstrumentedAttribute[int]]
FITS: Counters = {
    State.QUEUED: Job.fits_queued,
    State.RUNNING: Job.fits_running,
    State.SUCCEEDED: Job.fits_succeeded,
    State.FAILED: Job.fits_failed,
    State.CANCELLED: Job.fits_cancelled,
}
TRIALS: Counters = {
    State.QUEUED: Job.trials_queued,
    State.RUNNING: Job.trials_running,
    State.SUCCEEDED: Job.trials_succeeded,
    State.FAILED: Job.trials_failed,
    State.CANCELLED: Job.trials_cancelled,
    State.PRUNED: Job.trials_pruned,
}


def count(job: Job, counters: Counters, old: State, new: State, number: int = 1) -> None:
    """Count so many of the job's fits or trials under their new state."""
    for counter, change in ((counters[old], -number), (counters[new], number)):
        setattr(job, counter.key, getattr(job, counter.key) + change)


def move_trial(job: Job, trial: Trial, state: State) -> None:
    """Give the trial another state, and count it."""
    count(job, TRIALS, trial.state, state)
    trial.state = state
    mark_changed(job, trial)


def mark_changed(job: Job, row: Trial | Attempt) -> None:
    """Note that clients will see a difference in this row, in the version that this transaction gives the job."""
    row.version = next_version(job)


def next_version(job: Job) -> int:
    """The version that rows get which change now: no client has seen it yet.

    If the transaction has raised the job's version already, or raises it again, clients may get the row twice, which
    does no harm, and never not at all.
    """
    return job.version + 1
