"""The rungs of a job, which its row holds, and the places in them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, func, insert, select
from sqlalchemy.orm import Session

from app.tuning.jobs.tables import Fit, Job, Place, State, Trial
from app.tuning.search.rungs import Rung

ENDED_RUNG = (State.SUCCEEDED, State.CANCELLED)
StoredRung = dict[str, Any]  # a `Rung` and its state


def read_plan(job: Job) -> list[Rung]:
    """The job's rungs; none where every candidate is trained to the end."""
    return [Rung(*(rung[name] for name in Rung._fields)) for rung in job.rungs or ()]


def find_rung(job: Job, bracket: int, iter: int) -> StoredRung | None:
    """One of the job's rungs, None if there is none of these numbers."""
    return next((one for one in job.rungs or () if (one["bracket"], one["iter"]) == (bracket, iter)), None)


def get_rung(job: Job, bracket: int, iter: int) -> StoredRung:
    """One of the job's rungs, which it must have."""
    rung = find_rung(job, bracket, iter)
    assert rung is not None
    return rung


def change_rung(job: Job, bracket: int, iter: int, **changes: Any) -> None:
    """Change one of the job's rungs."""
    rung = get_rung(job, bracket, iter)
    job.rungs = [{**one, **changes} if one is rung else one for one in job.rungs or ()]


def start_rung(job: Job, fit: Fit) -> None:
    """Note that a fit of the rung has been claimed."""
    if job.rungs and not fit.is_refit and get_rung(job, fit.bracket, fit.iter)["state"] == State.QUEUED:
        change_rung(job, fit.bracket, fit.iter, state=State.RUNNING)


def is_in_rung(table: type[Fit | Place], job: Job, bracket: int, iter: int) -> tuple[ColumnElement[bool], ...]:
    """The condition of the rung's rows."""
    return table.job_id == job.id, table.bracket == bracket, table.iter == iter


def record_place(session: Session, job: Job, trial: Trial, fit: Fit) -> None:
    """Note what a trial has reached in the rung of its last fit; without a score if it has failed."""
    if rung := find_rung(job, fit.bracket, fit.iter):
        place = session.get_one(Place, (job.id, fit.bracket, fit.iter, trial.number))
        place.ended, place.score, place.score_std = True, trial.validation_score, trial.validation_score_std
        trial.iter, trial.n_resources = fit.iter, rung["n_resources"]


def insert_places(session: Session, job: Job, bracket: int, iter: int, trials: list[int]) -> None:
    """Give trials places in a rung; their order in it is not known yet."""
    own = {"job_id": job.id, "bracket": bracket, "iter": iter, "ended": False}
    session.execute(insert(Place), [{**own, "trial_number": number} for number in trials])


def count_unended(session: Session, job: Job, bracket: int, iter: int) -> int:
    """How many trials of a rung have not ended in it."""
    mine = select(func.count()).where(*is_in_rung(Place, job, bracket, iter), Place.ended.is_(False))
    return session.scalar(mine) or 0


def read_places(
    session: Session, job: Job, bracket: int, iter: int
) -> tuple[list[int], NDArray[np.float64], NDArray[np.bool_]]:
    """The trials of a rung in its order, their means (NaN: none, or failed) and whether they have ended in it."""
    columns = (Place.trial_number, Place.score, Place.ended)
    rows = session.execute(select(*columns).where(*is_in_rung(Place, job, bracket, iter)).order_by(Place.slot)).all()
    means = np.array([np.nan if row.score is None else row.score for row in rows], dtype=np.float64)
    return [row.trial_number for row in rows], means, np.array([row.ended for row in rows], dtype=np.bool_)
