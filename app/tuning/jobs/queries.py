"""What clients are shown: single rows, pages of them, ranks, and scikit-learn's `cv_results_`."""

import re
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, Literal, NamedTuple
from uuid import UUID

import numpy as np
from scipy.stats import binomtest, rankdata
from sqlalchemy import (
    ColumnElement,
    Float,
    Integer,
    Row,
    Select,
    Text,
    and_,
    bindparam,
    cast,
    func,
    or_,
    select,
    tuple_,
)
from sqlalchemy.orm import InstrumentedAttribute, Session

from app.tuning.jobs.tables import ENDED_JOB, EpochRow, Fit, Job, JobState, Place, State, Trial
from app.tuning.search.spec import JobSpec
from app.tuning.search.stored import read_spec_or_none

SPEEDS = 20  # jobs whose speed is looked at
TrialSort = Literal["number", "-validation_score", "validation_score", "-validation_accuracy", "validation_accuracy"]
JobPlace = tuple[datetime, UUID]  # a job's birth and id: where a page of jobs begins
TrialPlace = tuple[float | None, int]  # what a trial is sorted by, and its number: where a page of trials begins


def find_job(session: Session, job_id: UUID) -> Job | None:
    """The job's row."""
    return session.get(Job, job_id)


def find_speeds(session: Session, spec: JobSpec) -> list[float]:
    """Seconds per multiply-add of one worker, of the latest ended jobs; those of its model."""
    model = spec.model if isinstance(spec.model, str) else spec.model.model_dump()
    latest = select(Job.spec, Job.seconds_done, Job.cost_done).where(Job.state.in_(ENDED_JOB), Job.cost_done > 0)
    rows = session.execute(latest.order_by(Job.created_at.desc(), Job.id.desc()).limit(SPEEDS))
    return [
        row.seconds_done / row.cost_done
        for row in rows
        if isinstance(row.spec, dict) and row.spec.get("model") == model
    ]


def find_trial(session: Session, job_id: UUID, number: int) -> Trial | None:
    """The trial's row."""
    return session.get(Trial, (job_id, number))


class JobFilter(NamedTuple):
    """Which jobs to list: all that is given must hold."""

    state: JobState | None = None
    name: str | None = None
    label: tuple[str, str] | None = None  # key and value
    text: str | None = None  # somewhere in the name, a label or the note, or with what the id begins


def list_page_of_jobs(session: Session, which: JobFilter, after: JobPlace | None, limit: int) -> Sequence[Job]:
    """So many of these jobs, newest first, after a moment and an id."""
    query = select(Job).order_by(Job.created_at.desc(), Job.id.desc()).limit(limit).where(*_conditions(which))
    if after:
        moment, job_id = after
        query = query.where(or_(Job.created_at < moment, and_(Job.created_at == moment, Job.id < job_id)))
    return session.scalars(query).all()


def _conditions(which: JobFilter) -> list[ColumnElement[bool]]:
    conditions = [Job.state == which.state] if which.state else []
    if which.name:
        conditions.append(Job.name == which.name)
    if which.label:
        key, value = which.label
        conditions.append(Job.labels[key].as_string() == value)
    return [*conditions, _contains(which.text)] if which.text else conditions


def _contains(text: str) -> ColumnElement[bool]:
    """Whether a job contains this text, in whichever case; of its id it must be the beginning."""
    places = [column.icontains(text, autoescape=True) for column in (Job.name, Job.note)]
    if re.fullmatch(r"[\w-]+", text, re.ASCII):  # the letters of labels, so that their JSON's own marks are not found
        places.append(cast(Job.labels, Text).icontains(text, autoescape=True))
    digits = text.replace("-", "").lower()
    if re.fullmatch(r"[0-9a-f]{8,32}", digits):
        places.append(func.replace(cast(Job.id, Text), "-", "").startswith(digits))
    return or_(*places)


def find_best_params(session: Session, jobs: Sequence[Job]) -> dict[UUID, dict[str, Any]]:
    """The best trial's hyperparameters of each job that has one."""
    best = [and_(Trial.job_id == job.id, Trial.number == job.best_trial) for job in jobs if job.best_trial is not None]
    if not best:
        return {}
    return {row.job_id: row.params for row in session.scalars(select(Trial).where(or_(*best)))}


def list_page_of_trials(
    session: Session, job_id: UUID, state: State | None, sort: TrialSort, after: TrialPlace | None, limit: int
) -> list[Trial]:
    """So many trials after a place; those without a score come last however they are sorted."""
    mine = [Trial.job_id == job_id, *([Trial.state == state] if state else [])]
    if sort == "number":
        later = [Trial.number > after[1]] if after else []
        return list(session.scalars(select(Trial).where(*mine, *later).order_by(Trial.number).limit(limit)))
    found: list[Trial] = []
    score = _sorted_by(sort)
    if after is None or after[0] is not None:
        order = score.desc() if sort[0] == "-" else score.asc()
        known = [*mine, score.is_not(None), *_beyond(sort, after)]
        found += session.scalars(select(Trial).where(*known).order_by(order, Trial.number).limit(limit))
        after = None
    if len(found) < limit:
        later = [Trial.number > after[1]] if after else []
        unknown = [*mine, score.is_(None), *later]
        found += session.scalars(select(Trial).where(*unknown).order_by(Trial.number).limit(limit - len(found)))
    return found


def get_place(trial: Trial, sort: TrialSort) -> TrialPlace:
    """The place of a trial in a list that is sorted so."""
    accuracy = sort.endswith("accuracy")
    return trial.validation_accuracy if accuracy else trial.validation_score, trial.number


def _sorted_by(sort: TrialSort) -> InstrumentedAttribute[float | None]:
    return Trial.validation_accuracy if sort.endswith("accuracy") else Trial.validation_score


def _beyond(sort: TrialSort, after: TrialPlace | None) -> list[ColumnElement[bool]]:
    if not after or after[0] is None:
        return []
    value, number = after
    score = _sorted_by(sort)
    further = score < value if sort[0] == "-" else score > value
    return [or_(further, and_(score == value, Trial.number > number))]


def rank_trials(session: Session, job_id: UUID, trials: Sequence[Trial | Row[Any]]) -> dict[tuple[int, float], int]:
    """The rank of each pair of resources and score among the job's trials: 1 is best, ties share the lowest.

    The trials between two neighbours are counted by the index, so that none is counted twice.
    """
    known = ((one.n_resources, one.validation_score) for one in trials if one.validation_score is not None)
    pairs = sorted(set(known), reverse=True)
    if not pairs:
        return {}
    size = 1 << (len(pairs) - 1).bit_length()  # so that few statements are kept; from the last pair to itself is none
    padded = [*pairs, *pairs[-1:] * (size - len(pairs))]
    bounds = {
        f"{name}{index}": bound for index, pair in enumerate(padded) for name, bound in zip("na", pair, strict=True)
    }
    better = session.execute(_count_gaps(size), {"job": job_id, **bounds}).one()
    return {pair: 1 + int(count) for pair, count in zip(pairs, np.cumsum(better), strict=False)}


@lru_cache(maxsize=16)
def _count_gaps(pairs: int) -> Select[Any]:
    """How many trials stand above the first of so many pairs, and between each and the one before.

    Kept, since to make it takes longer than to execute it.
    """
    standing = tuple_(Trial.n_resources, Trial.validation_score)
    bounds = [
        tuple_(bindparam(f"n{index}", type_=Integer), bindparam(f"a{index}", type_=Float)) for index in range(pairs)
    ]
    mine = select(func.count()).where(Trial.job_id == bindparam("job"), Trial.validation_score.is_not(None))
    above = [mine.where(standing > bound) for bound in bounds]
    gaps = [*above[:1], *(one.where(standing <= higher) for one, higher in zip(above[1:], bounds, strict=False))]
    return select(*(gap.scalar_subquery() for gap in gaps))


def list_fits(session: Session, job_id: UUID, number: int) -> list[Fit]:
    """The trial's fits, rung by rung and fold by fold, and the refit last."""
    mine = (Fit.job_id == job_id, Fit.trial_number == number)
    return list(session.scalars(select(Fit).where(*mine).order_by(Fit.fold.is_(None), Fit.iter, Fit.fold)))


def list_epochs(session: Session, fits: Sequence[Fit]) -> dict[int, list[EpochRow]]:
    """The epochs of each fit, by the fit's id."""
    epochs: dict[int, list[EpochRow]] = {fit.id: [] for fit in fits}
    for epoch in session.scalars(select(EpochRow).where(EpochRow.fit_id.in_(epochs)).order_by(EpochRow.epoch)):
        epochs[epoch.fit_id].append(epoch)
    return epochs


def build_cv_results(session: Session, job: Job) -> dict[str, list[Any]]:
    """The finished trials as scikit-learn's `cv_results_`, key for key; what is masked or NaN there is None.

    With rungs a row for each candidate of each of them, in the order of scikit-learn's halving searches.
    """
    spec = read_spec_or_none(job.spec)
    resource = spec.resource if spec else None
    rows = _list_placed_rows(session, job) if job.rungs else _list_rows(session, job)
    columns = (Fit.score, Fit.fit_seconds, Fit.score_seconds)
    place: dict[tuple[int | None, int], int] = {(row.number, row.iter): index for index, row in enumerate(rows)}
    mine = select(Fit.trial_number, Fit.iter, Fit.fold, *columns).where(Fit.job_id == job.id, Fit.fold.is_not(None))
    fits = session.execute(mine).all()
    table = np.full((3, len(rows), 1 + max((fit.fold for fit in fits), default=-1)), np.nan)
    last = 1 + max((rung["iter"] for rung in job.rungs or ()), default=0)
    for number, first, fold, *cells in fits:
        # Where folds are what grows, a fold counts in the higher rungs too.
        for iter in range(first, last if resource == "folds" else first + 1):
            if (index := place.get((number, iter))) is not None:
                table[:, index, fold] = [np.nan if cell is None else cell for cell in cells]
    return {**_describe_rungs(job, rows), **_name_columns(rows, table, resource)}


class _Row(NamedTuple):
    number: int
    params: Any
    score: float | None
    score_std: float | None
    bracket: int = 0
    iter: int = 0
    n_resources: int = 0


def _list_rows(session: Session, job: Job) -> list[_Row]:
    ended = (Trial.job_id == job.id, Trial.state.in_((State.SUCCEEDED, State.FAILED, State.PRUNED)))
    columns = (Trial.number, Trial.params, Trial.validation_score, Trial.validation_score_std)
    return [_Row(*row) for row in session.execute(select(*columns).where(*ended).order_by(Trial.number))]


def _list_placed_rows(session: Session, job: Job) -> list[_Row]:
    columns = (Trial.number, Trial.params, Place.score, Place.score_std, Place.bracket, Place.iter)
    ended = (Place.job_id == job.id, Place.ended, Trial.job_id == job.id, Trial.number == Place.trial_number)
    order = (Place.bracket, Place.iter, Place.slot, Place.trial_number)
    resources = {(rung["bracket"], rung["iter"]): rung["n_resources"] for rung in job.rungs or ()}
    rows = session.execute(select(*columns).where(*ended).order_by(*order))
    return [_Row(*row)._replace(n_resources=resources[row.bracket, row.iter]) for row in rows]


def _describe_rungs(job: Job, rows: Sequence[_Row]) -> dict[str, list[Any]]:
    if not job.rungs:
        return {}
    brackets = {"bracket": [row.bracket for row in rows]} if any(rung["bracket"] for rung in job.rungs) else {}
    return {**brackets, "iter": [row.iter for row in rows], "n_resources": [row.n_resources for row in rows]}


def wilson_interval(successes: int, samples: int) -> tuple[float, float]:
    """Wilson's score interval of a share, at 95%."""
    interval = binomtest(successes, samples).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def _name_columns(
    rows: Sequence[_Row], table: np.ndarray[Any, np.dtype[np.float64]], resource: str | None
) -> dict[str, list[Any]]:
    scores, fit_seconds, score_seconds = table
    results: dict[str, list[Any]] = {}
    for name, seconds in (("fit_time", fit_seconds), ("score_time", score_seconds)):
        results |= {f"mean_{name}": _plain(np.mean(seconds, axis=1)), f"std_{name}": _plain(np.std(seconds, axis=1))}
    shown = [with_epochs(row.params, resource, row.n_resources) for row in rows]
    params = [one if isinstance(one, dict) else {} for one in shown]
    for name in dict.fromkeys(name for one in params for name in one):
        results[f"param_{name}"] = [one.get(name) for one in params]
    results["params"] = shown
    results |= {f"split{fold}_test_score": _plain(scores[:, fold]) for fold in range(scores.shape[1])}
    results["mean_test_score"] = [row.score for row in rows]
    results["std_test_score"] = [row.score_std for row in rows]
    results["rank_test_score"] = _ranked([row.score for row in rows])
    return results


def with_epochs(params: Any, resource: str | None, n_resources: int) -> Any:
    """A candidate's searched hyperparameters and, where epochs are what grows, its rung's, as in scikit-learn."""
    return {**params, "epochs": n_resources} if resource == "epochs" and isinstance(params, dict) else params


def _plain(column: np.ndarray[Any, np.dtype[np.float64]]) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in column]


def _ranked(scores: list[float | None]) -> list[int]:
    """Ranks as scikit-learn gives them: ties share the lowest, those without a mean share the last."""
    means = np.array([np.nan if score is None else score for score in scores], dtype=np.float64)
    if np.isnan(means).all():
        return [1] * len(means)
    means = np.nan_to_num(means, nan=np.nanmin(means) - 1)
    return [int(rank) for rank in rankdata(-means, method="min")]
