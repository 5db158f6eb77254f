"""The workers that are there, and what they are training."""

from datetime import datetime
from typing import Self
from uuid import UUID

from fastapi import APIRouter
from pydantic import ConfigDict, Field

from app.api.dependencies import Database
from app.api.openapi import describe_problems, describe_response
from app.api.schemas.base import ResponseModel
from app.tuning.database import reading
from app.tuning.jobs.workers import Present, list_present

router = APIRouter(prefix="/v1", tags=["workers"], responses=describe_problems(413, 421, 500, 503))


class RunningFit(ResponseModel):
    """A fit that is being trained."""

    model_config = ConfigDict(title="RunningFit")

    job_id: UUID
    trial: int | None
    fold: int | None = Field(description="Null for the refit.")
    attempt: int
    started_at: datetime | None


class WorkerResponse(ResponseModel):
    """A worker that has given a sign of life lately."""

    model_config = ConfigDict(title="Worker")

    name: str = Field(description="As fits name their worker; a worker has a new name after each start.")
    host: str
    since: datetime | None = Field(description="When it was started; null for workers of older versions.")
    last_seen: datetime
    fit: RunningFit | None = Field(description="What it is training, of several the latest; null if it waits.")
    device: str | None = Field(description="The GPU or processor that it trains on; null until it is known.")

    @classmethod
    def of(cls, present: Present) -> Self:
        worker, fit = present
        running = fit and RunningFit(
            job_id=fit.job_id, trial=fit.trial_number, fold=fit.fold, attempt=fit.attempt, started_at=fit.started_at
        )
        host = worker.name.rpartition("#")[0].rpartition("@")[2]
        own = {"name": worker.name, "last_seen": worker.last_seen, "device": worker.device}
        return cls(**own, host=host, since=worker.started_at, fit=running)


class WorkerPage(ResponseModel):
    """The workers, and the token of the next page."""

    items: list[WorkerResponse]
    next_page_token: str | None


@router.get("/workers", responses=describe_response(200, "The workers."))
def list_workers(database: Database) -> WorkerPage:
    """Who trains: all workers that are there, by name; one that was killed is listed for up to 20 seconds more."""
    with reading(database) as session:
        return WorkerPage(items=[WorkerResponse.of(one) for one in list_present(session)], next_page_token=None)
