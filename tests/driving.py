"""Brings posted jobs into the states that tests need, as a worker does: it claims fits and records what they found."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

from fastapi.testclient import TestClient
from sqlalchemy import Engine

from app.tuning import claims
from app.tuning.claims import Claim, Result
from app.tuning.database import writing

Score = Callable[[Claim], float | None]
Spec = dict[str, Any]
ENVIRONMENT = {
    "tunewell": "1.0.0",
    "python": "3.11.7",
    "tensorflow": "2.21.0",
    "keras": "3.12.0",
    "scikit_learn": "1.9.0",
    "dataset_sha256": "0" * 64,
}
EPOCHS = [
    {"epoch": epoch, "loss": 1 / epoch, "accuracy": 0.5, "val_loss": None, "val_accuracy": 0.25, "seconds": 1.5}
    for epoch in (1, 2)
]
BROKEN = {"type": "ValueError", "message": "the loss is not a number", "traceback": "Traceback: it was NaN"}


def grid(trials: int, **more: Any) -> Spec:
    """A job of so many trials on the small data set, all equally dear: they are claimed in their order."""
    rates = [(number + 1) / 10_000 for number in range(trials)]
    searched = {"strategy": "grid", "param_grid": {"learning_rate": rates}}
    return {"dataset": {"name": "digits"}, "search": searched, **more}


def post(client: TestClient, spec: Spec) -> dict[str, Any]:
    """The accepted job."""
    answer = client.post("/v1/jobs", json=spec)
    assert answer.status_code == 202, answer.text
    job: dict[str, Any] = answer.json()
    return job


def claim(engine: Engine, job_id: str) -> Claim | None:
    """The job's next fit, claimed."""
    with writing(engine) as session:
        return claims.claim(session, UUID(job_id), "w1@here", "message")


def record(engine: Engine, claimed: Claim, accuracy: float | None) -> None:
    """End a claimed fit: with an accuracy, or with an error."""
    with writing(engine) as session:
        if accuracy is None:
            done = claims.fail(session, claimed, BROKEN)
        else:
            done = claims.finish(session, claimed, Result(accuracy, 1 - accuracy, 2.0, 0.25, ENVIRONMENT), EPOCHS)
    assert done


def drive(engine: Engine, job_id: str, score: Score, fits: int | None = None) -> None:
    """Train so many of the job's fits, all if not said how many; a score of None is a fit that fails."""
    while fits is None or fits > 0:
        claimed = claim(engine, job_id)
        if claimed is None:
            return
        record(engine, claimed, score(claimed))
        fits = None if fits is None else fits - 1


def scores(folds: Mapping[int, Sequence[float | None]], refit: float | None = 0.9) -> Score:
    """Accuracies by trial and fold, and that of the refit."""
    return lambda claimed: refit if claimed.fold is None else folds[claimed.trial_number][claimed.fold]


def steady(claimed: Claim) -> float:
    """An accuracy that grows with the trial's number."""
    return 0.5 + claimed.trial_number / 100
