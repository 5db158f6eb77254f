"""Results of earlier fits: what was trained once, bit for bit, is not trained again."""

from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.tuning.jobs.store import ROWS_AT_ONCE
from app.tuning.jobs.tables import EpochRow, Fit, Job, State, Trial
from app.tuning.search.keys import MACHINE, make_key
from app.tuning.search.models import Candidates
from app.tuning.search.plan import make_plan, rung_folds
from app.tuning.search.spec import JobSpec

LATEST_JOBS = 100  # whose machines are looked at
MAX_COMPARED = 1000  # trials whose hits are compared, so that they fit into memory
EPOCH_FIELDS = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy", "seconds")


class Known(NamedTuple):
    """A fit that was trained before, as far as so many epochs."""

    accuracy: float | None
    loss: float | None
    fit_seconds: float
    score_seconds: float
    score: float | None
    hits: bytes | None
    confusion: list[list[int]] | None
    epochs: list[dict[str, Any]]


def find_equal_fit(session: Session, key: str, epochs: int | None, *, by_epoch: bool = True) -> Known | None:
    """The result of a fit with this key after so many epochs, or whole if `epochs` is None; None if there is none.

    A fit of more epochs contains it if it was scored after each, which is so for the accuracy alone; its hits are those
    of its last epoch only.
    """
    mine = (Fit.key == key, Fit.state == State.SUCCEEDED, Fit.score.is_not(None))
    for fit in session.scalars(select(Fit).where(*mine).order_by(Fit.hits.is_(None), Fit.id)):
        rows = session.scalars(select(EpochRow).where(EpochRow.fit_id == fit.id).order_by(EpochRow.epoch)).all()
        if epochs in (None, len(rows)):
            seconds = fit.fit_seconds or 0.0, fit.score_seconds or 0.0
            return Known(fit.accuracy, fit.loss, *seconds, fit.score, fit.hits, fit.confusion, _copy(rows))
        if by_epoch and epochs and epochs < len(rows) and (accuracy := rows[epochs - 1].val_accuracy) is not None:
            share = epochs / len(rows)
            seconds = (fit.fit_seconds or 0.0) * share, (fit.score_seconds or 0.0) * share
            return Known(accuracy, rows[epochs - 1].val_loss, *seconds, accuracy, None, None, _copy(rows[:epochs]))
    return None


def count_equal_fits(session: Session, spec: JobSpec, candidates: Candidates) -> int | None:
    """How many fits of the candidates' first rungs are known from workers like those of earlier jobs with the data.

    None if there are no such jobs. Each candidate whose fits are unknown as yet counts as none.
    """
    if not spec.limits.reuse:
        return 0
    environments = _list_environments(session, spec)
    if not environments:
        return None
    plan = make_plan(spec, len(candidates))
    first_rungs = (rung for rung in plan if rung.iter == 0 for _ in range(rung.n_candidates))
    wanted: list[tuple[set[str], int]] = []  # of each fit: its keys, one an environment, and its epochs
    for candidate, rung in zip(candidates, first_rungs, strict=True):
        if not candidate.is_unborn:
            complete = spec.hyperparameters(candidate.params, rung.n_resources)
            for fold in rung_folds(spec, plan, rung):
                keys = {make_key(spec, complete, fold, rung.n_resources, one) for one in environments}
                wanted.append((keys, int(complete.get("epochs", 0))))
    known = _find_epochs(session, sorted({key for keys, _ in wanted for key in keys}))
    by_epoch = spec.scoring == "accuracy"
    return sum(
        any(one == epochs or (by_epoch and one > epochs) for key in keys for one in known.get(key, ()))
        for keys, epochs in wanted
    )


def _list_environments(session: Session, spec: JobSpec) -> list[dict[str, str]]:
    """What differs between the machines that have trained the latest jobs with the data set."""
    data = (Job.dataset == spec.dataset.name, Job.dataset_sha256.is_not_distinct_from(spec.dataset.sha256))
    mine = (*data, Job.environment.is_not(None))
    latest = select(Job.environment).where(*mine).order_by(Job.created_at.desc()).limit(LATEST_JOBS)
    found = {tuple((one or {}).get(name, "") for name in MACHINE) for one in session.scalars(latest)}
    return [dict(zip(MACHINE, one, strict=True)) for one in sorted(found)]


def _find_epochs(session: Session, keys: list[str]) -> dict[str, set[int]]:
    """Of each key that fits have which succeeded: how many epochs they were trained."""
    known: dict[str, set[int]] = {}
    for start in range(0, len(keys), ROWS_AT_ONCE):
        mine = (Fit.key.in_(keys[start : start + ROWS_AT_ONCE]), Fit.state == State.SUCCEEDED)
        epochs = select(Fit.key, func.count(EpochRow.epoch)).outerjoin(EpochRow, EpochRow.fit_id == Fit.id)
        for key, number in session.execute(epochs.where(*mine).group_by(Fit.id, Fit.key)):
            known.setdefault(key or "", set()).add(number)
    return known


def list_hits(session: Session, job_id: UUID) -> dict[int, dict[int, bytes | None]]:
    """The hits of the best trials that reached the end, by their number and the fold."""
    best = select(Trial.number).where(Trial.job_id == job_id, Trial.state == State.SUCCEEDED)
    some = best.order_by(Trial.validation_score.desc(), Trial.number).limit(MAX_COMPARED)
    mine = (Fit.job_id == job_id, Fit.fold.is_not(None), Fit.state == State.SUCCEEDED, Fit.trial_number.in_(some))
    found: dict[int, dict[int, bytes | None]] = {}
    # In ascending order of the rungs, so that the highest one counts.
    for number, fold, hits in session.execute(
        select(Fit.trial_number, Fit.fold, Fit.hits).where(*mine).order_by(Fit.iter)
    ):
        found.setdefault(number or 0, {})[fold or 0] = hits
    return found


def _copy(rows: Sequence[EpochRow]) -> list[dict[str, Any]]:
    return [{name: getattr(row, name) for name in EPOCH_FIELDS} for row in rows]
