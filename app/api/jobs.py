"""A job's life over REST: create, list, show and delete, one transaction each."""

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from threading import Lock
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.api.dependencies import POLL_SECONDS, Database, Housekeeping, get_job_or_404, polling_headers
from app.api.idempotency import KeyHeader, digest_spec, find_first_response
from app.api.openapi import describe_problems, describe_response
from app.api.pagination import JobsQuery, encode_page_token
from app.api.problems import Conflict, NotFound
from app.api.schemas.jobs import JobPage, JobResponse
from app.api.strict_json import StrictRoute
from app.api.threads import in_writer_thread
from app.tuning.database import reading, writing
from app.tuning.jobs import datasets, deletions, queries, store
from app.tuning.jobs.tables import ENDED_JOB, Job
from app.tuning.search.candidates import draw_candidates
from app.tuning.search.counts import count_trials
from app.tuning.search.spec import JobSpec

NEW_JOB_ETAG = '"1"'  # every new job has version 1, so a replayed response has the same tag
LARGE_JOB_TRIALS = 500
# Large jobs are created one at a time, to save memory: one of ten thousand trials takes 10 MB while it is inserted.
_large_job_lock = Lock()
IF_NONE_MATCH = Header(alias="If-None-Match", description="ETags of responses that the client already has.")


def take_turns(spec: JobSpec) -> AbstractContextManager[Any]:
    """The lock of large jobs, for a large job.

    Raises:
        SpecRejected: the resources of the search do not make a plan.
    """
    return _large_job_lock if count_trials(spec) >= LARGE_JOB_TRIALS else nullcontext()


async def known_tags(request: Request, _: Annotated[str | None, IF_NONE_MATCH] = None) -> list[str]:
    """The ETags in all `If-None-Match` header lines."""
    return list_tags(request, "If-None-Match")


def list_tags(request: Request, header: str) -> list[str]:
    """The ETags in all lines of a header."""
    tags = ",".join(request.headers.getlist(header)).split(",")
    return [tag.strip().removeprefix("W/") for tag in tags]


KnownTags = Annotated[list[str], Depends(known_tags)]
router = APIRouter(
    prefix="/v1/jobs", tags=["jobs"], route_class=StrictRoute, responses=describe_problems(413, 421, 422, 500, 503)
)


@router.post(
    "",
    status_code=202,
    response_model=JobResponse,
    responses={
        **describe_response(202, "The job is stored.", "Location", "ETag", "Retry-After"),
        **describe_problems(403, 415),
    },
)
@in_writer_thread
def create_job(
    request: Request,
    spec: JobSpec,
    database: Database,
    housekeeper: Housekeeping,
    idempotency_key: KeyHeader = None,
) -> Response:
    """Post a search; poll the job at the response's `Location`."""
    try:
        with reading(database) as session:
            resolved = datasets.resolve_dataset(session, spec)
        with take_turns(resolved):
            candidates = draw_candidates(resolved)
            digest = digest_spec(spec)
            if first := find_first_response(database, idempotency_key, digest):
                return _accepted_response(request, first)
            with writing(database) as session:
                datasets.hold_dataset(session, resolved)
                job = store.insert_job(session, resolved, candidates)
                text = JobResponse.of(job, None).model_dump_json()
                if idempotency_key:
                    store.remember(session, idempotency_key, digest, text)
    except IntegrityError:
        # A concurrent POST with the same key was committed first.
        if first := find_first_response(database, idempotency_key, digest):
            return _accepted_response(request, first)
        raise
    housekeeper.nudge()
    return _accepted_response(request, text)


@router.get("", responses=describe_response(200, "A page of jobs."))
def list_jobs(query: Annotated[JobsQuery, Query()], database: Database) -> JobPage:
    """A page of jobs, newest first."""
    place = query.place()
    with reading(database) as session:
        found = queries.list_page_of_jobs(session, query.which, place, query.page_size + 1)
        best_params = queries.find_best_params(session, found)
    page = found[: query.page_size]
    last = page[-1] if len(found) > len(page) else None
    return JobPage(
        items=[JobResponse.of(job, best_params.get(job.id)) for job in page],
        next_page_token=encode_page_token(query.pages, (last.created_at, last.id)) if last else None,
    )


@router.get(
    "/{job_id}",
    response_model=JobResponse,
    responses={
        **describe_response(200, "The job.", "ETag", "Retry-After"),
        **describe_response(304, "The job is unchanged: it matches one of the ETags.", "ETag", "Retry-After"),
        **describe_problems(404),
    },
)
def show_job(job_id: UUID, database: Database, known: KnownTags) -> Response:
    """The job: its state, its counts and the best so far."""
    with reading(database) as session:
        job = get_job_or_404(session, job_id)
        return respond_unless_known(job, known, lambda: write_job(session, job))


@router.delete(
    "/{job_id}",
    status_code=204,
    responses={**describe_response(204, "The job is deleted."), **describe_problems(403, 404, 409)},
)
@in_writer_thread
def delete_job(job_id: UUID, database: Database, housekeeper: Housekeeping) -> None:
    """Delete an ended job with its trials."""
    with writing(database) as session:
        job = get_locked_job(session, job_id)
        if job.state not in ENDED_JOB:
            raise Conflict(
                f"The job is {job.state}: cancel it first, or wait until it has ended.", polling_headers(job)
            )
        deletions.begin_deletion(session, job)
    housekeeper.nudge()
    housekeeper.delete_model(job_id)


def write_job(session: Session, job: Job) -> str:
    """The job as JSON."""
    best_params = queries.find_best_params(session, [job]).get(job.id)
    return JobResponse.of(job, best_params).model_dump_json()


def respond_unless_known(job: Job, known: list[str], write: Callable[[], str]) -> Response:
    """What `write` makes of the job as it is; 304 if the client has that already."""
    tag = job_etag(job)
    headers = {"ETag": tag, **polling_headers(job)}
    if tag in known or "*" in known:
        return Response(status_code=304, headers=headers)
    return json_response(write(), headers=headers)


def job_etag(job: Job) -> str:
    """The ETag of a job: every change that a client can see increments the version."""
    return f'"{job.version}"'


def json_response(text: str, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A response whose body is JSON already."""
    return Response(text, status, headers, "application/json")


def _accepted_response(request: Request, text: str) -> Response:
    location = f"{request.scope.get('root_path', '')}/v1/jobs/{json.loads(text)['id']}"
    return json_response(text, 202, {"Location": location, "ETag": NEW_JOB_ETAG, "Retry-After": str(POLL_SECONDS)})


def get_locked_job(session: Session, job_id: UUID) -> Job:
    """The job, locked until the transaction ends, or a 404."""
    job = store.lock_job(session, job_id)
    if job is None:
        raise NotFound("job")
    return job
