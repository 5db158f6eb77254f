"""The scores of a job's trials on each fold, for what is told about all of them together."""

from typing import Any, Literal, NamedTuple

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.tuning.jobs.tables import Fit, Job, State, Trial
from app.tuning.search.importance import Floats
from app.tuning.search.models import Value
from app.tuning.search.stored import read_spec_or_none

Measure = Literal["validation_score", "validation_accuracy", "fit_seconds"]


class FoldScores(NamedTuple):
    """Candidates that were trained alike: each with a score on every fold, of which more is better."""

    params: list[dict[str, Value]]
    table: Floats  # of shape (candidates, folds)
    n_resources: int | None  # that each had; null in a search without rungs
    spaces: dict[str, Any]  # what each hyperparameter was drawn from


def read_scores(session: Session, job: Job, of: Measure) -> FoldScores:
    """The candidates of the rung with the most of them that have ended on all folds, or of the whole search."""
    columns = {"validation_score": Fit.score, "validation_accuracy": Fit.accuracy, "fit_seconds": -Fit.fit_seconds}
    column = columns[of]
    mine = (Fit.job_id == job.id, Fit.fold.is_not(None), Fit.state == State.SUCCEEDED, column.is_not(None))
    rungs: dict[int, dict[int, dict[int, float]]] = {}
    rows: Any = session.execute(select(Fit.n_resources, Fit.trial_number, Fit.fold, column).where(*mine))
    for n_resources, number, fold, score in rows:
        rungs.setdefault(n_resources or 0, {}).setdefault(number, {})[fold] = score
    whole = {n_resources: _list_whole(trials) for n_resources, trials in rungs.items()}
    best = max(whole, key=lambda n_resources: (len(whole[n_resources]), n_resources), default=0)
    chosen = whole.get(best, {})
    spec = read_spec_or_none(job.spec)
    stored = session.execute(select(Trial.number, Trial.params).where(Trial.job_id == job.id)).all()
    found = {row.number: row.params for row in stored if row.number in chosen and isinstance(row.params, dict)}
    names = list(dict.fromkeys(name for one in found.values() for name in one))
    complete = {number: spec.fill(one) if spec else one for number, one in found.items()}
    numbers = sorted(number for number, one in complete.items() if all(name in one for name in names))
    params = [{name: complete[number][name] for name in names} for number in numbers]
    spaces = spec.search.spaces if spec else []
    table = np.array([chosen[number] for number in numbers], dtype=np.float64)
    return FoldScores(params, table, best or None, spaces[0] if len(spaces) == 1 else {})


def _list_whole(trials: dict[int, dict[int, float]]) -> dict[int, list[float]]:
    """The scores, by the fold, of the trials that have one on each fold."""
    folds = max((len(one) for one in trials.values()), default=0)
    return {number: [one[fold] for fold in sorted(one)] for number, one in trials.items() if len(one) == folds}
