"""Results of earlier fits: what was trained once, bit for bit, is not trained again."""

from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.tuning.jobs.tables import EpochRow, Fit, State, Trial

MAX_COMPARED = 1000  # trials whose hits are compared, so that they fit into memory
EPOCH_FIELDS = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy", "seconds")


class Known(NamedTuple):
    """A fit that was trained before, as far as so many epochs."""

    accuracy: float
    loss: float | None
    fit_seconds: float
    score_seconds: float
    hits: bytes | None
    epochs: list[dict[str, Any]]


def find_equal_fit(session: Session, key: str, epochs: int | None) -> Known | None:
    """The result of a fit with this key after so many epochs, or whole if `epochs` is None; None if there is none.

    A fit of more epochs contains it if it was scored after each; its hits are those of its last epoch only.
    """
    mine = (Fit.key == key, Fit.state == State.SUCCEEDED, Fit.accuracy.is_not(None))
    for fit in session.scalars(select(Fit).where(*mine).order_by(Fit.hits.is_(None), Fit.id)):
        rows = session.scalars(select(EpochRow).where(EpochRow.fit_id == fit.id).order_by(EpochRow.epoch)).all()
        if epochs in (None, len(rows)):
            return Known(
                fit.accuracy or 0.0, fit.loss, fit.fit_seconds or 0.0, fit.score_seconds or 0.0, fit.hits, _copy(rows)
            )
        if epochs and epochs < len(rows) and (accuracy := rows[epochs - 1].val_accuracy) is not None:
            fit_seconds, score_seconds = (
                (seconds or 0.0) * epochs / len(rows) for seconds in (fit.fit_seconds, fit.score_seconds)
            )
            return Known(accuracy, rows[epochs - 1].val_loss, fit_seconds, score_seconds, None, _copy(rows[:epochs]))
    return None


def list_hits(session: Session, job_id: UUID) -> dict[int, dict[int, bytes | None]]:
    """The hits of the best trials that reached the end, by their number and the fold."""
    best = select(Trial.number).where(Trial.job_id == job_id, Trial.state == State.SUCCEEDED)
    some = best.order_by(Trial.validation_accuracy.desc(), Trial.number).limit(MAX_COMPARED)
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
