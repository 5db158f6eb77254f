"""One attempt at a fit: the key that fences all that it writes, and the ways in which it can end."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypedDict
from uuid import UUID

from sqlalchemy import ColumnElement, select, update
from sqlalchemy.dialects.postgresql import insert  # SQLite's dialect writes its ON CONFLICT too
from sqlalchemy.orm import Session

from app.tuning.database import clock
from app.tuning.jobs.counters import next_version
from app.tuning.jobs.store import execute_change
from app.tuning.jobs.tables import Attempt, EpochRow, Fit, Job, Outcome, State
from app.tuning.saved_models import SavedModel

Epochs = Iterable[Mapping[str, Any]]


class ErrorRecord(TypedDict):
    """An error as it is stored and shown."""

    type: str
    message: str
    traceback: str | None


@dataclass(frozen=True)
class AttemptKey:
    """Names one attempt at a fit."""

    job_id: UUID
    fit_id: int
    attempt: int


@dataclass(frozen=True)
class Result:
    """What a fit found: accuracy and loss on its fold, for the refit on the test set; seconds; what trained it.

    `accuracy` is None where there are no classes. `score` is by the job's scoring, None where that is the accuracy.
    `hits` has a bit for each scored row. `key` names what was trained: equal keys, equal results. `selection` is what a
    refit says of the winner, `confusion` its counts of test samples by their true class and the predicted one, `model`
    what it has stored.
    """

    accuracy: float | None
    loss: float | None
    fit_seconds: float
    score_seconds: float
    environment: dict[str, str]
    hits: bytes | None = None
    key: str | None = None
    cached: bool = False
    resumed_from: int | None = None
    epochs: int = 0
    selection: dict[str, Any] | None = None
    score: float | None = None
    confusion: list[list[int]] | None = None
    model: SavedModel | None = None

    @property
    def final_score(self) -> float | None:
        """The score that counts."""
        return self.accuracy if self.score is None else self.score

    @property
    def epochs_reused(self) -> int:
        """Epochs that this fit did not have to train."""
        return self.epochs if self.cached else self.resumed_from or 0


@dataclass(frozen=True)
class Finished:
    """Trained and scored."""

    result: Result
    epochs: Epochs = ()


@dataclass(frozen=True)
class Failed:
    """The hyperparameters made the training raise: a result, which no other attempt would change."""

    error: ErrorRecord
    epochs: Epochs = ()


@dataclass(frozen=True)
class Lost:
    """It came to nothing, which says nothing about the hyperparameters: retried, up to a limit.

    A worker whose machine was at fault rests before its next claim.
    """

    how: Outcome
    error: ErrorRecord
    resting_worker: str | None = None


@dataclass(frozen=True)
class Cancelled:
    """Stopped because the job is being cancelled."""


@dataclass(frozen=True)
class Released:
    """Given back by a worker that was asked to stop, at no cost."""


@dataclass(frozen=True)
class Unavailable:
    """Given back, at no cost, by a worker that cannot read the data set."""

    error: ErrorRecord
    worker: str
    dataset: str


End = Finished | Failed | Lost | Cancelled | Released | Unavailable


def outcome_of(end: End) -> Outcome:
    """The outcome that an attempt which ends so is stored with."""
    match end:
        case Lost(how=how):
            return how
        case Finished():
            return Outcome.SUCCEEDED
        case Failed():
            return Outcome.FAILED
        case Cancelled():
            return Outcome.CANCELLED
        case Released() | Unavailable():
            return Outcome.RELEASED


def fence(attempt: int) -> tuple[Any, Any]:
    """The condition of every change of a running fit: it is still this attempt's."""
    return Fit.state == State.RUNNING, Fit.attempt == attempt


def insert_epochs(session: Session, key: AttemptKey, epochs: Epochs) -> None:
    """Write epochs, unless a commit whose response was lost has written them already."""
    if rows := [{"fit_id": key.fit_id, **epoch} for epoch in epochs]:
        session.execute(insert(EpochRow).on_conflict_do_nothing(), rows)


def mark_attempts_changed(session: Session, job: Job, *which: ColumnElement[bool]) -> None:
    """Note that clients will see a difference in the attempts at these of the job's fits."""
    fits = select(Fit.id).where(Fit.job_id == job.id, *which)
    execute_change(session, update(Attempt).where(Attempt.fit_id.in_(fits)).values(version=next_version(job)))


def close_attempt(
    session: Session,
    job: Job,
    key: AttemptKey,
    outcome: Outcome,
    error: ErrorRecord | None,
    processor: str | None = None,
) -> None:
    """Note when and how the attempt ended, and what processor a result is from."""
    mine = update(Attempt).where(Attempt.fit_id == key.fit_id, Attempt.attempt == key.attempt)
    values = {"outcome": outcome, "error": error, "processor": processor, "version": next_version(job)}
    execute_change(session, mine.values(ended_at=clock(0), **values))
