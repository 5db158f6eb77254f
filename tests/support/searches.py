"""Searches in the states that the page shows, as rows: made in seconds, however large."""

import math
from typing import Any
from uuid import UUID

import httpx2
from sqlalchemy import Engine, select, update

from app.tuning.database import writing
from app.tuning.jobs.claims import Claim
from app.tuning.jobs.tables import Fit, Job, JobState, State, Trial
from tests.support.driving import ARTICLE, Spec, drive

DRAWN = {
    "learning_rate": {"distribution": "loguniform", "low": 0.0001, "high": 0.1},
    "dropout_rate": {"distribution": "uniform", "low": 0.1, "high": 0.6},
    "num_neurons": {"distribution": "randint", "low": 16, "high": 513},
    "optimizer": ["adam", "sgd", "rmsprop"],
}


def post_job(url: str, spec: Spec) -> str:
    """The id of the posted job."""
    response = httpx2.post(f"{url}/v1/jobs", json=spec, timeout=60)
    assert response.status_code == 202, response.text
    return str(response.json()["id"])


def article(url: str, engine: Engine, fits: int | None = None, **more: Any) -> str:
    """The example grid of 27 trials, of which `fits` fits or all have been trained, and every seventh has failed."""

    def score(claimed: Claim) -> float | None:
        number = claimed.trial_number or 0
        if claimed.fold is not None and number % 7 == 6:
            return None
        return round(0.95 - number / 400 - (claimed.fold or 0) / 1000, 4)

    job_id = post_job(url, {**ARTICLE, **more})
    drive(engine, job_id, score, fits)
    return job_id


def random_search(url: str, engine: Engine, trials: int) -> str:
    """An ended random search of so many trials, each with an accuracy, written in one transaction."""
    search = {"strategy": "random", "param_distributions": DRAWN, "n_iter": trials}
    spec = {"name": "many", "dataset": {"name": "digits"}, "search": search, "evaluation": {"cv": 2, "refit": False}}
    job_id = UUID(post_job(url, spec))
    with writing(engine) as session:
        for trial in session.query(Trial).filter(Trial.job_id == job_id):
            trial.state, trial.fit_seconds = State.SUCCEEDED, 1 + trial.params["num_neurons"] / 100
            trial.validation_score = trial.validation_accuracy = _invent_accuracy(trial.params, trial.number)
            trial.validation_score_std, trial.validation_accuracy_std, trial.version = 0.004, 0.004, 2
        session.flush()
        accuracy = Trial.validation_accuracy
        own = (Trial.job_id == Fit.job_id) & (Trial.number == Fit.trial_number)
        scored = dict.fromkeys(("score", "accuracy"), select(accuracy).where(own).scalar_subquery())
        scored["fit_seconds"] = select(Trial.fit_seconds / 2).where(own).scalar_subquery()
        session.execute(update(Fit).where(Fit.job_id == job_id).values(state=State.SUCCEEDED, **scored))
        ranked = select(Trial.number, accuracy).where(Trial.job_id == job_id).order_by(accuracy.desc(), Trial.number)
        best = session.execute(ranked.limit(1)).one()
        session.execute(
            update(Job)
            .where(Job.id == job_id)
            .values(
                state=JobState.SUCCEEDED,
                version=2,
                trials_queued=0,
                trials_succeeded=trials,
                fits_queued=0,
                fits_succeeded=2 * trials,
                best_trial=best[0],
                best_score=best[1],
                best_accuracy=best[1],
                started_at=Job.created_at,
                ended_at=Job.created_at,
            )
        )
    return str(job_id)


def _invent_accuracy(params: dict[str, Any], number: int) -> float:
    """Best near a learning rate of 0.003 and many neurons, with some noise that repeats."""
    distance = (math.log10(params["learning_rate"]) + 2.5) ** 2
    noise = math.sin(number * 12.9898) * 0.01
    accuracy: float = 0.94 - 0.05 * distance - 0.1 * params["dropout_rate"] ** 2 + params["num_neurons"] / 20000 + noise
    return round(accuracy, 5)
