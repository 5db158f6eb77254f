"""A job's trials and attempts as columns: each in one response, for pages and notebooks."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from app.api.dependencies import Database, get_job_or_404
from app.api.jobs import KnownTags, respond_unless_known
from app.api.openapi import describe_problems, describe_response
from app.api.pagination import Digits
from app.api.schemas.columns import AttemptColumns, TrialColumns
from app.api.strict_json import StrictRoute
from app.tuning.database import reading
from app.tuning.jobs.columns import write_attempt_columns, write_trial_columns

MAX_VERSION = 2**31 - 1
Version = Annotated[int, Field(ge=0, le=MAX_VERSION), Digits]
router = APIRouter(
    prefix="/v1/jobs", tags=["jobs"], route_class=StrictRoute, responses=describe_problems(413, 421, 422, 500, 503)
)


class SinceQuery(BaseModel):
    """What the client has already."""

    model_config = ConfigDict(extra="forbid")

    since: Version = Field(0, description="Only what has changed after this version of the job, which the client has.")


def describe_columns(what: str) -> dict[int | str, dict[str, Any]]:
    """The responses of a route that shows columns."""
    return {
        **describe_response(200, what, "ETag", "Retry-After"),
        **describe_response(304, "The job is unchanged: it matches one of the ETags.", "ETag", "Retry-After"),
        **describe_problems(404),
    }


@router.get("/{job_id}/table", response_model=TrialColumns, responses=describe_columns("The trials."))
def show_table(job_id: UUID, query: Annotated[SinceQuery, Query()], database: Database, known: KnownTags) -> Response:
    """All trials as columns, or those that have changed since a version of the job."""
    with reading(database) as session:
        job = get_job_or_404(session, job_id)
        return respond_unless_known(job, known, lambda: write_trial_columns(session, job, query.since))


@router.get("/{job_id}/fits", response_model=AttemptColumns, responses=describe_columns("The attempts."))
def list_attempts(
    job_id: UUID, query: Annotated[SinceQuery, Query()], database: Database, known: KnownTags
) -> Response:
    """All attempts at the job's fits as columns, or those that have changed since a version of the job."""
    with reading(database) as session:
        job = get_job_or_404(session, job_id)
        return respond_unless_known(job, known, lambda: write_attempt_columns(session, job, query.since))
