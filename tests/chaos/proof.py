"""A job's results, row for row, compared with a clean run and checked for contradictions."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import func, select

from app.tuning.database import reading
from app.tuning.jobs.tables import Attempt, EpochRow, Fit, Job, Outcome, State, Trial
from tests.chaos.report import Row
from tests.chaos.site import Site

Table = dict[str, Any]


def table(site: Site, job_id: str) -> Table:
    """All results of a job: `cv_results_`, best, fits and epochs, without attempts and times."""
    key = UUID(job_id)
    with reading(site.engine) as session:
        fits = session.scalars(select(Fit).where(Fit.job_id == key)).all()
        epochs = session.scalars(select(EpochRow).join(Fit, Fit.id == EpochRow.fit_id).where(Fit.job_id == key)).all()
    places = {fit.id: f"{fit.trial_number}/{fit.bracket}.{fit.iter}/{fit.fold}" for fit in fits}
    columns = ("state", "accuracy", "loss", "fit_seconds", "score_seconds", "error")
    values = ("loss", "accuracy", "val_loss", "val_accuracy", "seconds")
    results = site.http.get(f"/v1/jobs/{job_id}/results").json()
    best = site.http.get(f"/v1/jobs/{job_id}/best").json()
    return {
        **{f"results/{name}/{row}": value for name, column in results.items() for row, value in enumerate(column)},
        **{f"best/{name}": value for name, value in best.items() if name != "job_id"},
        **{f"fit/{places[fit.id]}/{name}": getattr(fit, name) for fit in fits for name in columns},
        **{f"epoch/{places[one.fit_id]}/{one.epoch}/{name}": getattr(one, name) for one in epochs for name in values},
    }


def clean(site: Site, spec: dict[str, Any]) -> Table:
    """The results of the same job when undisturbed, computed without waiting."""
    job_id = site.post({**spec, "labels": {"ms": "0"}})
    site.wait(job_id)
    return table(site, job_id)


def check(site: Site, row: Row, job_id: str, expected: Table, state: str = "succeeded") -> None:
    """Check that the job has ended as an undisturbed one: the same table, nothing lost, nothing twice."""
    job = site.wait(job_id)
    row.promise(job["state"] == state, f"job {job_id} {job['state']}: {job.get('error')}")
    row.differences += differences(expected, table(site, job_id))
    row.broken += contradictions(site, job_id)


def differences(clean: Table, other: Table) -> int:
    """The number of cells in which two tables differ, to the last bit."""
    return sum(_bits(clean.get(cell)) != _bits(other.get(cell)) for cell in clean.keys() | other.keys())


def _bits(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def contradictions(site: Site, job_id: str) -> list[str]:
    """Fits lost or recorded twice, and counters that disagree with the rows."""
    key = UUID(job_id)
    with reading(site.engine) as session:
        job = session.get_one(Job, key)
        recorded = select(Attempt.fit_id, func.count()).where(Attempt.outcome == Outcome.SUCCEEDED)
        succeeded = {fit: count for fit, count in session.execute(recorded.group_by(Attempt.fit_id))}
        fits = session.scalars(select(Fit).where(Fit.job_id == key)).all()
        trials = session.scalars(select(Trial).where(Trial.job_id == key)).all()
    found = [f"fit {fit.id} was recorded {succeeded[fit.id]} times" for fit in fits if succeeded.get(fit.id, 0) > 1]
    found += [
        f"fit {fit.id} is {fit.state} but no attempt of it succeeded"
        for fit in fits
        if fit.state == State.SUCCEEDED and not succeeded.get(fit.id)
    ]
    for what, rows in (("fits", fits), ("trials", trials)):
        for state in State:
            counted, real = getattr(job, f"{what}_{state}", 0), sum(row.state == state for row in rows)
            if counted != real:
                found.append(f"{what}_{state} says {counted}, and there are {real}")
    return found


@dataclass(frozen=True)
class Try:
    """An attempt and the start of the fit's next one."""

    fit_id: int
    attempt: int
    worker: str  # its node name
    started: datetime
    ended: datetime | None
    outcome: Outcome | None
    error: dict[str, Any] | None
    next_started: datetime | None


def tries(site: Site, job_id: str) -> list[Try]:
    """All attempts at a job's fits."""
    with reading(site.engine) as session:
        mine = select(Attempt).join(Fit, Fit.id == Attempt.fit_id).where(Fit.job_id == UUID(job_id))
        rows = session.scalars(mine.order_by(Attempt.fit_id, Attempt.attempt)).all()
    starts = {(row.fit_id, row.attempt): row.started_at for row in rows}
    return [
        Try(
            row.fit_id,
            row.attempt,
            row.worker.partition("#")[0],
            row.started_at,
            row.ended_at,
            row.outcome,
            row.error,
            starts.get((row.fit_id, row.attempt + 1)),
        )
        for row in rows
    ]
