"""What jobs' rows say of the models that they keep."""

from collections.abc import Collection
from typing import cast
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.tuning.jobs.store import ROWS_AT_ONCE
from app.tuning.jobs.tables import Fit, Job, State
from app.tuning.saved_models import SavedModel


def find_saved_model(session: Session, key: str) -> tuple[UUID, SavedModel] | None:
    """The model of a refit with this key, and the job that has it; None if there is none."""
    mine = (Fit.key == key, Fit.fold.is_(None), Fit.state == State.SUCCEEDED, Job.saved_model.is_not(None))
    found = select(Job.id, Job.saved_model).join(Fit, Fit.job_id == Job.id).where(*mine)
    row = session.execute(found.order_by(Fit.id.desc()).limit(1)).first()
    return (row[0], cast(SavedModel, row[1])) if row else None


def list_saved_models(session: Session, job_ids: Collection[UUID]) -> dict[UUID, SavedModel]:
    """The models of those of these jobs that have one."""
    found: dict[UUID, SavedModel] = {}
    ordered = sorted(job_ids)
    for start in range(0, len(ordered), ROWS_AT_ONCE):
        mine = (Job.id.in_(ordered[start : start + ROWS_AT_ONCE]), Job.saved_model.is_not(None))
        rows = session.execute(select(Job.id, Job.saved_model).where(*mine))
        found |= {job_id: cast(SavedModel, model) for job_id, model in rows}
    return found
