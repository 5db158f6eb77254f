"""What changes a job's course over REST: cancel, pause, resume, retry and extend, one transaction each."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Response
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from app.api.dependencies import Database, Housekeeping, get_job_or_404, polling_headers
from app.api.jobs import get_locked_job, job_etag, json_response, take_turns, write_job
from app.api.openapi import describe_problems, describe_response
from app.api.problems import Conflict
from app.api.schemas.jobs import JobResponse
from app.api.strict_json import StrictRoute
from app.api.threads import in_writer_thread
from app.tuning.database import reading, writing
from app.tuning.jobs import control, outcomes
from app.tuning.jobs.extending import extend_job
from app.tuning.jobs.tables import Job, JobState
from app.tuning.search.candidates import draw_candidates
from app.tuning.search.extension import Extension, extend_spec
from app.tuning.search.stored import UnreadableSpec, read_spec

router = APIRouter(
    prefix="/v1/jobs", tags=["jobs"], route_class=StrictRoute, responses=describe_problems(413, 421, 422, 500, 503)
)


def describe_control(state: str, *others: int) -> dict[str, Any]:
    """The arguments of a route that changes a job's course."""
    return {
        "status_code": 202,
        "response_model": JobResponse,
        "responses": {
            **describe_response(202, f"The job, {state}.", "ETag", "Retry-After"),
            **describe_problems(403, 404, 409, *others),
        },
    }


@router.post("/{job_id}/cancel", **describe_control("cancelled or cancelling"))
@in_writer_thread
def cancel_job(job_id: UUID, database: Database) -> Response:
    """Cancel a job: queued fits at once, running fits within two seconds."""
    with _control(database, job_id) as (session, job):
        if job.state in (JobState.SUCCEEDED, JobState.FAILED):
            raise Conflict(f"The job has {job.state}: only jobs that have not ended can be cancelled.")
        if job.state not in (JobState.CANCELLING, JobState.CANCELLED):
            outcomes.cancel_job(session, job)
        return _changed_job(session, job)


@router.post("/{job_id}/pause", **describe_control("paused"))
@in_writer_thread
def pause_job(job_id: UUID, database: Database) -> Response:
    """Pause a job: nothing more is claimed; running fits are given back within two seconds, at no cost."""
    with _control(database, job_id) as (session, job):
        control.pause(job)
        return _changed_job(session, job)


@router.post("/{job_id}/resume", **describe_control("running again"))
@in_writer_thread
def resume_job(job_id: UUID, database: Database, housekeeper: Housekeeping) -> Response:
    """Go on with a paused job."""
    with _control(database, job_id) as (session, job):
        control.resume(job)
        response = _changed_job(session, job)
    housekeeper.nudge()
    return response


@router.post("/{job_id}/retry", **describe_control("running again"))
@in_writer_thread
def retry_job(job_id: UUID, database: Database, housekeeper: Housekeeping) -> Response:
    """Train the failed fits again, and only these; the winner is refitted after them."""
    with _control(database, job_id) as (session, job):
        control.retry_failed_fits(session, job)
        response = _changed_job(session, job)
    housekeeper.nudge()
    return response


@router.post("/{job_id}/extend", **describe_control("running again", 415))
@in_writer_thread
def extend(job_id: UUID, extension: Extension, database: Database, housekeeper: Housekeeping) -> Response:
    """Let a search go on, with the same rows as if it had been posted so: more draws, a larger grid, more rungs."""
    with reading(database) as session:
        stored = get_job_or_404(session, job_id).spec
    try:
        was = read_spec(stored)
    except UnreadableSpec as error:
        raise Conflict(str(error)) from None
    spec = extend_spec(was, extension)
    with take_turns(spec):
        candidates = draw_candidates(spec)  # before the job is locked: it may take a while
    with _control(database, job_id) as (session, job):
        if job.spec != stored:
            raise control.NotPossible("The job has been extended meanwhile: look at it, then try again.")
        extend_job(session, job, was, spec, candidates)
        response = _changed_job(session, job)
    housekeeper.nudge()
    return response


@contextmanager
def _control(database: Engine, job_id: UUID) -> Iterator[tuple[Session, Job]]:
    """A transaction with the locked job; what is not possible is a 409."""
    try:
        with writing(database) as session:
            yield session, get_locked_job(session, job_id)
    except (control.NotPossible, UnreadableSpec) as error:
        raise Conflict(str(error)) from None


def _changed_job(session: Session, job: Job) -> Response:
    session.flush()
    session.refresh(job)
    return json_response(write_job(session, job), 202, {"ETag": job_etag(job), **polling_headers(job)})
