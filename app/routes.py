"""The jobs' addresses: thin shells around the store, one transaction each."""

import csv
import hashlib
import io
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict
from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app import memory
from app.bodies import StrictRoute
from app.openapi import answer, problem
from app.pages import Digits, JobsQuery, Number, TrialsQuery, token
from app.problems import Conflict, NotFound, refused
from app.schemas import (
    Best,
    FitAnswer,
    JobAnswer,
    JobPage,
    Test,
    TrialAnswer,
    TrialPage,
    TrialWithFits,
    Validation,
    trial_fields,
)
from app.threads import writes
from app.tuning import deletions, store
from app.tuning import reading as rows
from app.tuning.database import reading, writing
from app.tuning.defaults import test_samples
from app.tuning.house import House
from app.tuning.search import candidates, count
from app.tuning.spec import JobSpec
from app.tuning.stored import readable
from app.tuning.tables import ENDED_JOB, Fit, IdempotencyKey, Job, JobState, State

POLL_SECONDS = 1  # between two polls of a job that has not ended
FIRST_TAG = '"1"'  # of every new job, so that a replayed answer has it too


# Coroutines, as they need no thread to wait for.
async def engine(request: Request) -> Engine:
    """The app's database."""
    return request.app.state.engine  # type: ignore[no-any-return]


async def house(request: Request) -> House:
    """The app's house-keeping."""
    return request.app.state.house  # type: ignore[no-any-return]


Database = Annotated[Engine, Depends(engine)]
Keeping = Annotated[House, Depends(house)]
TrialNumber = Annotated[Number, Digits, Path(description="The trial's number, from 0.")]
IF_NONE_MATCH = Header(alias="If-None-Match", description="ETags of answers that are known.")


async def known_tags(request: Request, _: Annotated[str | None, IF_NONE_MATCH] = None) -> list[str]:
    """The ETags that the client has, of however many header lines."""
    tags = ",".join(request.headers.getlist("If-None-Match")).split(",")
    return [tag.strip().removeprefix("W/") for tag in tags]


KnownTags = Annotated[list[str], Depends(known_tags)]
KEY = Header(
    alias="Idempotency-Key",
    min_length=1,
    max_length=255,
    pattern=r"^[!-~]+$",
    description="A string of the client's own, new for each job: a POST that is repeated with it makes one job only.",
)


class ResultsQuery(BaseModel):
    """The format of the results."""

    model_config = ConfigDict(extra="forbid")

    format: Literal["json", "csv"] = "json"


router = APIRouter(
    prefix="/v1/jobs", tags=["jobs"], route_class=StrictRoute, responses=problem(413, 421, 422, 500, 503)
)


@router.post(
    "",
    status_code=202,
    response_model=JobAnswer,
    responses={**answer(202, "The job is stored.", "Location", "ETag", "Retry-After"), **problem(403, 415)},
)
@writes
def create_job(
    request: Request,
    spec: JobSpec,
    database: Database,
    keeping: Keeping,
    idempotency_key: Annotated[str | None, KEY] = None,
) -> Response:
    """Post a search; poll the job at the `Location` that is answered."""
    try:
        with memory.room(count(spec)):
            found = candidates(spec)
            digest = hashlib.sha256(json.dumps(spec.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()
            if known := _remembered(database, idempotency_key):
                return _replayed(request, known, digest)
            with writing(database) as session:
                job = store.create(session, spec, found)
                text = JobAnswer.of(job, None).model_dump_json()
                if idempotency_key:
                    store.remember(session, idempotency_key, digest, text)
    except IntegrityError:
        # The same POST was accepted a moment ago.
        if known := _remembered(database, idempotency_key):
            return _replayed(request, known, digest)
        raise
    keeping.nudge()
    return _accepted(request, text)


@router.get("", responses=answer(200, "A page of jobs."))
def list_jobs(query: Annotated[JobsQuery, Query()], database: Database) -> JobPage:
    """A page of jobs, newest first."""
    place = query.place()
    with reading(database) as session:
        found = rows.jobs(session, query.state, place, query.page_size + 1)
        winners = rows.winners(session, found)
    page = found[: query.page_size]
    last = page[-1] if len(found) > len(page) else None
    return JobPage(
        items=[JobAnswer.of(job, winners.get(job.id)) for job in page],
        next_page_token=token(query.pages, (last.created_at, last.id)) if last else None,
    )


@router.get(
    "/{job_id}",
    response_model=JobAnswer,
    responses={
        **answer(200, "The job.", "ETag", "Retry-After"),
        **answer(304, "The job is as one of the ETags has it.", "ETag", "Retry-After"),
        **problem(404),
    },
)
def show_job(job_id: UUID, database: Database, known: KnownTags) -> Response:
    """The job: its state, its counts and the best so far."""
    with reading(database) as session:
        job = _job(session, job_id)
        tag = etag(job)
        headers = {"ETag": tag, **polling(job)}
        if tag in known or "*" in known:
            return Response(status_code=304, headers=headers)
        winner = rows.winners(session, [job]).get(job.id)
    return _json(JobAnswer.of(job, winner).model_dump_json(), headers=headers)


@router.delete("/{job_id}", status_code=204, responses={**answer(204, "The job is gone."), **problem(403, 404, 409)})
@writes
def delete_job(job_id: UUID, database: Database, keeping: Keeping) -> None:
    """Delete a job that has ended, with its trials."""
    with writing(database) as session:
        job = _locked(session, job_id)
        if job.state not in ENDED_JOB:
            raise Conflict(f"The job is {job.state}: cancel it first, or wait until it has ended.", polling(job))
        deletions.begin(session, job)
    keeping.nudge()


@router.post(
    "/{job_id}/cancel",
    status_code=202,
    response_model=JobAnswer,
    responses={**answer(202, "The job, cancelled or soon to be.", "ETag", "Retry-After"), **problem(403, 404, 409)},
)
@writes
def cancel_job(job_id: UUID, database: Database) -> Response:
    """Cancel a job: what is queued at once, what is running within two seconds."""
    with writing(database) as session:
        job = _locked(session, job_id)
        if job.state in (JobState.SUCCEEDED, JobState.FAILED):
            raise Conflict(f"The job has {job.state}: only a job that has not ended can be cancelled.")
        if job.state not in (JobState.CANCELLING, JobState.CANCELLED):
            store.cancel(session, job)
            session.flush()
            session.refresh(job)
        winner = rows.winners(session, [job]).get(job.id)
    return _json(JobAnswer.of(job, winner).model_dump_json(), 202, {"ETag": etag(job), **polling(job)})


@router.get(
    "/{job_id}/best", responses={**answer(200, "The best so far, or for good.", "Retry-After"), **problem(404, 409)}
)
def show_best(job_id: UUID, database: Database, response: Response) -> Best:
    """The best hyperparameters, so far or for good."""
    with reading(database) as session:
        job = _job(session, job_id)
        if job.best_trial is None:
            raise Conflict(f"No trial has succeeded; the job is {job.state}.", polling(job))
        trial = rows.trial(session, job_id, job.best_trial)
        fits = rows.fits(session, job_id, job.best_trial)
    response.headers.update(polling(job))
    assert trial is not None
    refit = next((fit for fit in fits if fit.fold is None and fit.state == State.SUCCEEDED), None)
    return Best(
        job_id=job.id,
        final=job.state == JobState.SUCCEEDED,
        trial=trial.number,
        params=trial.params,
        validation=Validation(
            mean_accuracy=trial.validation_accuracy or 0.0,
            std_accuracy=trial.validation_accuracy_std or 0.0,
            fold_accuracies=[fit.accuracy for fit in fits if fit.fold is not None and fit.accuracy is not None],
        ),
        test=_test(job, refit) if refit else None,
        refit_seconds=refit.fit_seconds if refit else None,
        environment=job.environment,
    )


@router.get("/{job_id}/trials", responses={**answer(200, "A page of trials.", "Retry-After"), **problem(404)})
def list_trials(
    job_id: UUID, query: Annotated[TrialsQuery, Query()], database: Database, response: Response
) -> TrialPage:
    """A page of the job's trials, without their fits."""
    place = query.place(job_id)
    with reading(database) as session:
        job = _job(session, job_id)
        found = rows.trials(session, job_id, query.state, query.sort, place, query.page_size + 1)
        page = found[: query.page_size]
        ranks = rows.ranks(session, job_id, page)
    last = page[-1] if len(found) > len(page) else None
    response.headers.update(polling(job))
    return TrialPage(
        items=[TrialAnswer.of(trial, ranks) for trial in page],
        next_page_token=token(query.pages(job_id), (last.validation_accuracy, last.number)) if last else None,
    )


@router.get(
    "/{job_id}/trials/{number}",
    responses={**answer(200, "The trial with its fits.", "Retry-After"), **problem(404)},
)
def show_trial(job_id: UUID, number: TrialNumber, database: Database, response: Response) -> TrialWithFits:
    """A trial with its fits and their histories."""
    with reading(database) as session:
        job = _job(session, job_id)
        trial = rows.trial(session, job_id, number)
        if trial is None:
            raise NotFound("trial")
        ranks = rows.ranks(session, job_id, [trial])
        fits = rows.fits(session, job_id, number)
        histories = rows.histories(session, fits)
    shown = [FitAnswer.of(fit, histories[fit.id]) for fit in fits]
    response.headers.update(polling(job))
    return TrialWithFits.model_validate({**trial_fields(trial, ranks), "fits": shown})


@router.get(
    "/{job_id}/results",
    response_model=dict[str, list[Any]],
    responses={
        **answer(200, "The table.", "Retry-After", content={"text/csv": {"schema": {"type": "string"}}}),
        **problem(404),
    },
)
def show_results(job_id: UUID, query: Annotated[ResultsQuery, Query()], database: Database) -> Response:
    """All finished trials as scikit-learn's `cv_results_`, key for key; `format=csv` gives a line a trial."""
    with reading(database) as session:
        job = _job(session, job_id)
        results = rows.cv_results(session, job_id)
    if query.format == "json":
        return JSONResponse(results, headers=polling(job))
    disposition = f'attachment; filename="{job_id}.csv"'
    return Response(_csv(results), media_type="text/csv", headers={"Content-Disposition": disposition, **polling(job)})


def etag(job: Job) -> str:
    """The tag of a job's answer: every change that a client can see raises the version."""
    return f'"{job.version}"'


def polling(job: Job) -> dict[str, str]:
    """When to ask again, until the job has ended."""
    return {} if job.state in ENDED_JOB else {"Retry-After": str(POLL_SECONDS)}


def _json(text: str, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(text, status, headers, "application/json")


def _accepted(request: Request, text: str) -> Response:
    location = f"{request.scope.get('root_path', '')}/v1/jobs/{json.loads(text)['id']}"
    return _json(text, 202, {"Location": location, "ETag": FIRST_TAG, "Retry-After": str(POLL_SECONDS)})


def _remembered(database: Engine, key: str | None) -> IdempotencyKey | None:
    if key is None:
        return None
    with reading(database) as session:
        return store.remembered(session, key)


def _replayed(request: Request, known: IdempotencyKey, digest: str) -> Response:
    if known.body_sha256 != digest:
        raise refused([(("Idempotency-Key",), "This key came with another body: take a new key for a new job.")])
    return _accepted(request, known.answer)


def _job(session: Session, job_id: UUID) -> Job:
    job = rows.job(session, job_id)
    if job is None:
        raise NotFound("job")
    return job


def _locked(session: Session, job_id: UUID) -> Job:
    job = store.lock(session, job_id)
    if job is None:
        raise NotFound("job")
    return job


def _test(job: Job, refit: Fit) -> Test | None:
    spec = readable(job.spec)
    if refit.accuracy is None or spec is None:
        return None
    samples = test_samples(spec)
    interval = rows.wilson_interval(round(refit.accuracy * samples), samples)
    return Test(accuracy=refit.accuracy, loss=refit.loss, samples=samples, accuracy_ci95=interval)


def _csv(results: Mapping[str, list[Any]]) -> str:
    text = io.StringIO()
    lines = csv.writer(text)
    lines.writerow(results)
    for row in zip(*results.values(), strict=True):
        lines.writerow([json.dumps(cell) if isinstance(cell, dict) else cell for cell in row])
    return text.getvalue()
