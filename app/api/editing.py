"""`PATCH /v1/jobs/{id}`: a job's name, labels and note, which two people may change at the same time."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Request, Response

from app.api.dependencies import Database, polling_headers
from app.api.jobs import get_locked_job, job_etag, json_response, list_tags, write_job
from app.api.openapi import describe_problems, describe_response
from app.api.problems import Problem
from app.api.schemas.jobs import JobResponse
from app.api.strict_json import StrictRoute
from app.api.threads import in_writer_thread
from app.tuning.database import writing
from app.tuning.jobs.editing import JobEdit, edit_job
from app.tuning.jobs.tables import Job

IF_MATCH = Header(
    alias="If-Match",
    description="Required: the ETag of the job as the client knows it, or `*` to overwrite what others have changed.",
)
UNCONDITIONAL = "Send If-Match with the job's ETag as you know it, so that nobody else's change is lost; * for any."
OVERTAKEN = "Somebody else has changed name, labels or note since: read the job again and repeat with its new ETag."
router = APIRouter(
    prefix="/v1/jobs", tags=["jobs"], route_class=StrictRoute, responses=describe_problems(413, 421, 422, 500, 503)
)


async def expected_tags(request: Request, _: Annotated[str | None, IF_MATCH] = None) -> list[str]:
    """The ETags in `If-Match`.

    Raises:
        Problem: there are none, 428.
    """
    if "If-Match" not in request.headers:
        raise Problem(428, UNCONDITIONAL)
    return list_tags(request, "If-Match")


@router.patch(
    "/{job_id}",
    response_model=JobResponse,
    responses={
        **describe_response(200, "The job as it is now.", "ETag", "Retry-After"),
        **describe_problems(403, 404, 412, 415, 428),
    },
)
@in_writer_thread
def change_description(
    job_id: UUID, edit: JobEdit, database: Database, expected: Annotated[list[str], Depends(expected_tags)]
) -> Response:
    """Change a job's name, labels or note, unless somebody else was faster; training need not have stood still."""
    with writing(database) as session:
        job = get_locked_job(session, job_id)
        if not any(_was_seen(job, tag) for tag in expected):
            raise Problem(412, OVERTAKEN, {"ETag": job_etag(job)})
        edit_job(job, edit)
        session.flush()
        session.refresh(job)
        return json_response(write_job(session, job), headers={"ETag": job_etag(job), **polling_headers(job)})


def _was_seen(job: Job, tag: str) -> bool:
    """Whether who has this ETag knows the latest edit: training raises the version several times a second."""
    version = tag.strip('"')
    return tag == "*" or (version.isdecimal() and job.edit_version <= int(version[:20]) <= job.version)
