"""Dependencies of the job routes, the lookup of the job in a path, and the polling headers."""

from typing import Annotated
from uuid import UUID

from fastapi import Depends, Request
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from app.api.problems import NotFound
from app.tuning.housekeeping import Housekeeper
from app.tuning.jobs import queries
from app.tuning.jobs.tables import ENDED_JOB, Job

POLL_SECONDS = 1  # between two polls of an unfinished job


# Coroutines, so that FastAPI does not need a thread to run them.
async def get_engine(request: Request) -> Engine:
    """The app's database."""
    return request.app.state.engine  # type: ignore[no-any-return]


async def get_housekeeper(request: Request) -> Housekeeper:
    """The app's housekeeping."""
    return request.app.state.housekeeper  # type: ignore[no-any-return]


Database = Annotated[Engine, Depends(get_engine)]
Housekeeping = Annotated[Housekeeper, Depends(get_housekeeper)]


def get_job_or_404(session: Session, job_id: UUID) -> Job:
    """The job with the ID in the path.

    Raises:
        NotFound: no job has this ID.
    """
    job = queries.find_job(session, job_id)
    if job is None:
        raise NotFound("job")
    return job


def polling_headers(job: Job) -> dict[str, str]:
    """`Retry-After`, until the job has ended."""
    return {} if job.state in ENDED_JOB else {"Retry-After": str(POLL_SECONDS)}
