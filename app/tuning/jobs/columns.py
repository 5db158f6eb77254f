"""A job's trials and attempts as columns, for clients that draw them: all of them, or what has changed since."""

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Select, func, select
from sqlalchemy.orm import Session

from app.tuning.jobs.queries import rank_trials
from app.tuning.jobs.tables import Attempt, Fit, Job, Trial

ROWS_READ_AT_ONCE = 1000  # so that the largest job takes little memory
CHANGES_READ_AT_ONCE = 100  # whose ranks are counted, which is quicker than to rank all
MAX_REASON_LETTERS = 200
TRIAL_COLUMNS: dict[str, Any] = {
    "number": Trial.number,
    "state": Trial.state,
    "validation_score": Trial.validation_score,
    "validation_score_std": Trial.validation_score_std,
    "validation_accuracy": Trial.validation_accuracy,
    "validation_accuracy_std": Trial.validation_accuracy_std,
    "fit_seconds": Trial.fit_seconds,
    "bracket": Trial.bracket,
    "iter": Trial.iter,
    "n_resources": Trial.n_resources,
}
FIT_COLUMNS: dict[str, Any] = {
    "fit": Fit.id,
    "trial": Fit.trial_number,
    "fold": Fit.fold,
    "bracket": Fit.bracket,
    "iter": Fit.iter,
}
ATTEMPT_COLUMNS: dict[str, Any] = {
    "worker": Attempt.worker,
    "attempt": Attempt.attempt,
    "outcome": Attempt.outcome,
    "start": Attempt.started_at,
    "end": Attempt.ended_at,
    "reason": Attempt.error,
}


def write_trial_columns(session: Session, job: Job, since: int = 0) -> str:
    """The trials that have changed after this version of the job, as JSON: a list for each column.

    Ranks are among all trials; those of trials that have not changed may have moved.
    """
    ranks = {} if since else _rank_all(session, job)
    rows = select(*_named(TRIAL_COLUMNS), Trial.params).where(Trial.job_id == job.id, Trial.version > since)
    columns, params = _Columns([*TRIAL_COLUMNS, "rank"]), _Columns()
    for some in _read(session, rows.order_by(Trial.number), CHANGES_READ_AT_ONCE if since else ROWS_READ_AT_ONCE):
        if since:
            ranks = rank_trials(session, job.id, some)
        standings = [ranks.get((row.n_resources, row.validation_score)) for row in some]
        columns.add([(*row[:-2], row.n_resources or None, rank) for row, rank in zip(some, standings, strict=True)])
        params.add_objects([row.params if isinstance(row.params, dict) else {} for row in some])
    return columns.write(version=str(job.version), params=params.write())


def write_attempt_columns(session: Session, job: Job, since: int = 0) -> str:
    """The attempts at the job's fits that have changed after this version of it, as JSON: a list for each column."""
    columns = _Columns([*FIT_COLUMNS, *ATTEMPT_COLUMNS])
    # Not a join, of which planners without statistics make the wrong one: a job's fits are mostly next to each other.
    first, last = session.execute(select(func.min(Fit.id), func.max(Fit.id)).where(Fit.job_id == job.id)).one()
    tries = select(*_named(ATTEMPT_COLUMNS), Attempt.fit_id).where(Attempt.fit_id.between(first, last))
    changed = tries.where(Attempt.version > since).order_by(Attempt.fit_id, Attempt.attempt)
    for some in _read(session, changed, ROWS_READ_AT_ONCE):
        ids = {row.fit_id for row in some}
        fits = session.execute(select(*_named(FIT_COLUMNS)).where(Fit.id.in_(ids), Fit.job_id == job.id))
        mine = {row.fit: row for row in fits}
        columns.add([(*mine[row.fit_id], *_show_attempt(row)) for row in some if row.fit_id in mine])
    return columns.write(version=str(job.version))


def _show_attempt(row: Any) -> tuple[Any, ...]:
    return row.worker, row.attempt, row.outcome, _moment(row.start), _moment(row.end), _reason(row.reason)


class _Columns:
    """Columns as JSON text, which takes a tenth of the memory that the values take."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._parts: dict[str, list[str]] = {name: [] for name in names}
        self._rows = 0

    def add(self, rows: Sequence[Sequence[Any]]) -> None:
        """Add rows whose cells are in the order of the columns."""
        if not rows:
            return
        for parts, cells in zip(self._parts.values(), zip(*rows, strict=True), strict=True):
            parts.append(_write_cells(cells))
        self._rows += len(rows)

    def add_objects(self, rows: Sequence[dict[str, Any]]) -> None:
        """Add rows that name their cells; where a row lacks a column, its cell is null."""
        for name in dict.fromkeys(name for row in rows for name in row):
            if name not in self._parts:
                self._parts[name] = [_write_cells([None] * self._rows)] if self._rows else []
        self.add([[row.get(name) for name in self._parts] for row in rows])

    def write(self, **more: str) -> str:
        """A JSON object with a list for each column, and `more`, which is JSON already."""
        pieces: list[str] = []
        for name, text in more.items():
            pieces += [f"{json.dumps(name)}:{text}", ","]
        for name, parts in self._parts.items():
            cells = [piece for part in parts for piece in (part, ",")]
            pieces += [f"{json.dumps(name)}:[", *cells[:-1], "]", ","]
        return "".join(["{", *pieces[:-1], "}"])


def _rank_all(session: Session, job: Job) -> dict[tuple[int, float], int]:
    """The rank of each pair of resources and score, as `rank_trials` gives it for some."""
    pair = (Trial.n_resources, Trial.validation_score)
    known = select(*pair).where(Trial.job_id == job.id, Trial.validation_score.is_not(None))
    ranks: dict[tuple[int, float], int] = {}
    for index, row in enumerate(session.execute(known.order_by(*(column.desc() for column in pair)))):
        ranks.setdefault((row.n_resources, row.validation_score), index + 1)
    return ranks


def _named(columns: dict[str, Any]) -> list[Any]:
    return [column.label(name) for name, column in columns.items()]


def _read(session: Session, rows: Select[Any], at_once: int) -> Iterator[Sequence[Row[Any]]]:
    return session.execute(rows, execution_options={"yield_per": at_once}).partitions()


def _write_cells(cells: Sequence[Any]) -> str:
    return json.dumps(cells, separators=(",", ":"))[1:-1]


def _moment(moment: datetime | None) -> str | None:
    return moment.isoformat().replace("+00:00", "Z") if moment else None


def _reason(error: Any) -> str | None:
    return str(error["message"])[:MAX_REASON_LETTERS] if isinstance(error, dict) and "message" in error else None
