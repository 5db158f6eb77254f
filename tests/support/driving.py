"""Brings posted jobs into the states that tests need: it claims fits and records results as a worker does."""

import re
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from fastapi.testclient import TestClient
from sqlalchemy import Engine

from app.tuning.database import writing
from app.tuning.jobs import claims, outcomes
from app.tuning.jobs.attempts import ErrorRecord, Failed, Finished, Result
from app.tuning.jobs.claims import Claim
from tests.support.ledger import Score

Spec = dict[str, Any]
Folds = dict[int, Sequence[float | None]]  # accuracies by trial and fold
ENVIRONMENT = {
    "tunewell": "1.0.0",
    "python": "3.11.7",
    "tensorflow": "2.21.0",
    "keras": "3.12.0",
    "scikit_learn": "1.9.0",
    "dataset_sha256": "0" * 64,
    "processor": "AMD EPYC (avx512f)",
}
EPOCHS = [
    {"epoch": epoch, "loss": 1 / epoch, "accuracy": 0.5, "val_loss": None, "val_accuracy": 0.25, "seconds": 1.5}
    for epoch in (1, 2)
]
BROKEN: ErrorRecord = {
    "type": "ValueError",
    "message": "the loss is not a number",
    "traceback": "Traceback: it was NaN",
}

ARTICLE = {
    "name": "seed-grid",
    "dataset": {"name": "mnist", "train_samples": 6000, "test_samples": None},
    "model": "cnn",
    "search": {
        "strategy": "grid",
        "param_grid": {
            "learning_rate": [0.01, 0.05, 0.1],
            "dropout_rate": [0.1, 0.2, 0.3],
            "num_neurons": [128, 256, 512],
        },
        "points_to_evaluate": [],
        "forbidden": [],
    },
    "fixed": {"epochs": 2, "batch_size": 32},
    "evaluation": {
        "cv": 3,
        "refit": True,
        "keep_model": True,
        "repeats": 1,
        "race": None,
        "select": "best",
        "scoring": None,
    },
    "random_state": 42,
    "warm_start": None,
    "limits": {
        "max_parallel_fits": None,
        "fit_timeout_seconds": 3600,
        "max_failed_trials": None,
        "reuse": True,
        "max_epochs_trained": None,
    },
    "labels": {"team": "vision"},
}
DRAWN = {
    "learning_rate": {"distribution": "reciprocal", "low": 0.001, "high": 0.1},
    "dropout_rate": {"distribution": "uniform", "loc": 0.1, "scale": 0.3},
    "momentum": {"distribution": "uniform", "low": 0, "high": 0.5},
    "num_neurons": {"distribution": "randint", "low": 16, "high": 257},
    "optimizer": ["sgd", "rmsprop"],
}
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


def grid(trials: int, **more: Any) -> Spec:
    """A job of `trials` trials on the small data set, all of equal cost: they are claimed in their order."""
    rates = [(number + 1) / 10_000 for number in range(trials)]
    searched = {"strategy": "grid", "param_grid": {"learning_rate": rates}}
    return {"dataset": {"name": "digits"}, "search": searched, **more}


def post(client: TestClient, spec: Spec) -> dict[str, Any]:
    """The accepted job."""
    response = client.post("/v1/jobs", json=spec)
    assert response.status_code == 202, response.text
    job: dict[str, Any] = response.json()
    return job


def claim(engine: Engine, job_id: str) -> Claim | None:
    """The job's next fit, claimed."""
    with writing(engine) as session:
        return claims.claim(session, UUID(job_id), "w1@here", "message")


def record(engine: Engine, claimed: Claim, accuracy: float | None) -> None:
    """End a claimed fit: with an accuracy, or with an error."""
    with writing(engine) as session:
        if accuracy is None:
            done = outcomes.record(session, claimed, Failed(BROKEN))
        else:
            done = outcomes.record(
                session, claimed, Finished(Result(accuracy, 1 - accuracy, 2.0, 0.25, ENVIRONMENT), EPOCHS)
            )
    assert done


def drive(engine: Engine, job_id: str, score: Score, fits: int | None = None) -> None:
    """Train `fits` of the job's fits, or all; a score of None makes the fit fail."""
    while fits is None or fits > 0:
        claimed = claim(engine, job_id)
        if claimed is None:
            return
        record(engine, claimed, score(claimed))
        fits = None if fits is None else fits - 1


def scores(folds: Folds, refit: float | None = 0.9) -> Score:
    """Accuracies by trial and fold, and that of the refit."""
    return lambda claimed: refit if claimed.fold is None else folds[claimed.trial_number][claimed.fold]


def steady(claimed: Claim) -> float:
    """An accuracy that grows with the trial's number."""
    return 0.5 + claimed.trial_number / 100
