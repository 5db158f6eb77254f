"""The rows of deleted jobs: the job itself goes at once, all else a little at a time, so that nobody waits for it."""

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from app.tuning.database import clock
from app.tuning.jobs.store import execute_change
from app.tuning.jobs.tables import Deletion, EpochRow, Fit, Job, Place, Trial

MAX_ROWS_DELETED = 2000  # in one transaction, more or less; a fit has a thousand epochs at most


def begin_deletion(session: Session, job: Job) -> None:
    """Delete the locked job, and note that the rest is to follow: without it nobody sees the rest."""
    session.add(Deletion(job_id=job.id, created_at=clock(0)))
    execute_change(session, delete(Job).where(Job.id == job.id))


def delete_some_rows(session: Session) -> bool:
    """Delete some of the rows of jobs that are gone; False if there are none, or if others are at it."""
    oldest = select(Deletion).order_by(Deletion.created_at).limit(1).with_for_update(skip_locked=True)
    deletion = session.scalar(oldest)
    if not deletion:
        return False
    if fits := _some_fits(session, deletion):
        execute_change(session, delete(Fit).where(Fit.id.in_(fits)))  # and with them their attempts and epochs
        return True
    first = select(func.min(Trial.number)).where(Trial.job_id == deletion.job_id).scalar_subquery()
    places = delete(Place).where(Place.job_id == deletion.job_id, Place.trial_number < first + MAX_ROWS_DELETED)
    execute_change(session, places)
    some = delete(Trial).where(Trial.job_id == deletion.job_id, Trial.number < first + MAX_ROWS_DELETED)
    if not execute_change(session, some):
        session.delete(deletion)
    return True


def _some_fits(session: Session, deletion: Deletion) -> list[int]:
    # Epochs are numbered from 1, and the highest number is found in the index, whereas a count would read them all.
    epochs = select(func.max(EpochRow.epoch)).where(EpochRow.fit_id == Fit.id).scalar_subquery()
    fits = select(Fit.id, func.coalesce(epochs, 0)).where(Fit.job_id == deletion.job_id).limit(MAX_ROWS_DELETED)
    some: list[int] = []
    rows = 0
    for fit_id, count in session.execute(fits):
        rows += 1 + count
        if some and rows > MAX_ROWS_DELETED:
            break
        some.append(fit_id)
    return some
