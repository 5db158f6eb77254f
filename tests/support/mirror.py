"""A client that asks only for what has changed, and must have everything after it."""

import json
from collections.abc import Callable
from typing import Any
from uuid import UUID

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from app.tuning.database import reading
from app.tuning.jobs.columns import write_attempt_columns, write_trial_columns
from app.tuning.jobs.tables import Job

Write = Callable[[Session, Job, int], str]
Table = dict[tuple[Any, ...], dict[str, Any]]
KINDS: dict[Write, tuple[str, ...]] = {
    write_trial_columns: ("number",),
    write_attempt_columns: ("fit", "attempt"),
}


class Mirror:
    """A job's trials and attempts, as they come by `since`."""

    def __init__(self, engine: Engine, job_id: UUID) -> None:
        self._engine, self._job_id = engine, job_id
        self._tables: dict[Write, Table] = {write: {} for write in KINDS}
        self._versions = dict.fromkeys(KINDS, 0)

    def look(self) -> None:
        """Take in what has changed: then everything must be there, and as it is."""
        for write, known in self._tables.items():
            with reading(self._engine) as session:
                job = session.get_one(Job, self._job_id)
                changed = json.loads(write(session, job, self._versions[write]))
                everything = json.loads(write(session, job, 0))
            self._versions[write] = changed["version"]
            known.update(_rows(write, changed))
            assert known == _rows(write, everything)


def _rows(write: Write, columns: dict[str, Any]) -> Table:
    columns = {f"params {name}": cells for name, cells in columns.pop("params", {}).items()} | columns
    columns.pop("version")
    columns.pop("rank", None)  # it moves with what others reach
    rows = [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]
    rows = [{name: cell for name, cell in row.items() if cell is not None} for row in rows]
    return {tuple(row.get(name) for name in KINDS[write]): row for row in rows}
