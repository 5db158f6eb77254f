"""A job's results: its best trial, its trials with their fits, and scikit-learn's `cv_results_`."""

import csv
import io
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Path, Query, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict

from app.api.dependencies import Database, get_job_or_404, polling_headers
from app.api.openapi import describe_problems, describe_response
from app.api.pagination import Digits, Number, TrialsQuery, encode_page_token
from app.api.problems import Conflict, NotFound
from app.api.schemas.results import (
    Best,
    FitResponse,
    Selection,
    Test,
    TrialPage,
    TrialResponse,
    TrialWithFits,
    Validation,
    read_trial_fields,
)
from app.api.strict_json import StrictRoute
from app.tuning.database import reading
from app.tuning.jobs import queries
from app.tuning.jobs.tables import Fit, Job, JobState, State, Trial
from app.tuning.search.spec import JobSpec
from app.tuning.search.stored import read_spec_or_none

TrialNumber = Annotated[Number, Digits, Path(description="The trial's number, from 0.")]
router = APIRouter(
    prefix="/v1/jobs", tags=["jobs"], route_class=StrictRoute, responses=describe_problems(413, 421, 422, 500, 503)
)


class ResultsQuery(BaseModel):
    """The format of the results."""

    model_config = ConfigDict(extra="forbid")

    format: Literal["json", "csv"] = "json"


@router.get(
    "/{job_id}/best",
    responses={
        **describe_response(200, "The best trial so far, or the final one.", "Retry-After"),
        **describe_problems(404, 409),
    },
)
def show_best(job_id: UUID, database: Database, response: Response) -> Best:
    """The best hyperparameters so far, or the final ones."""
    with reading(database) as session:
        job = get_job_or_404(session, job_id)
        if job.best_trial is None:
            raise Conflict(f"No trial has succeeded; the job is {job.state}.", polling_headers(job))
        trial = queries.find_trial(session, job_id, job.best_trial)
        fits = queries.list_fits(session, job_id, job.best_trial)
    response.headers.update(polling_headers(job))
    assert trial is not None
    spec = read_spec_or_none(job.spec)
    resource = spec.resource if spec else None
    scored = [fit for fit in fits if fit.iter == trial.iter or (resource == "folds" and fit.iter < trial.iter)]
    refit = next((fit for fit in fits if fit.fold is None and fit.state == State.SUCCEEDED), None)
    return Best(
        job_id=job.id,
        final=job.state == JobState.SUCCEEDED,
        trial=trial.number,
        params=queries.with_epochs(trial.params, resource, trial.n_resources),
        validation=_describe_validation(spec, trial, [fit for fit in scored if fit.fold is not None]),
        selection=Selection(
            rule="one_standard_error" if spec and spec.select == "one_standard_error" else "best",
            n_compared=job.trials_succeeded + job.trials_pruned,
        ),
        tied=(job.selection or {}).get("tied"),
        corrected=(job.selection or {}).get("corrected"),
        test=describe_test(job, refit) if refit else None,
        refit_seconds=refit.fit_seconds if refit else None,
        environment=job.environment,
    )


@router.get(
    "/{job_id}/trials",
    responses={**describe_response(200, "A page of trials.", "Retry-After"), **describe_problems(404)},
)
def list_trials(
    job_id: UUID, query: Annotated[TrialsQuery, Query()], database: Database, response: Response
) -> TrialPage:
    """A page of the job's trials, without their fits."""
    place = query.place(job_id)
    with reading(database) as session:
        job = get_job_or_404(session, job_id)
        found = queries.list_page_of_trials(session, job_id, query.state, query.sort, place, query.page_size + 1)
        page = found[: query.page_size]
        ranks = queries.rank_trials(session, job_id, page)
    last = page[-1] if len(found) > len(page) else None
    response.headers.update(polling_headers(job))
    return TrialPage(
        items=[TrialResponse.of(trial, ranks) for trial in page],
        next_page_token=encode_page_token(query.pages(job_id), queries.get_place(last, query.sort)) if last else None,
    )


@router.get(
    "/{job_id}/trials/{number}",
    responses={**describe_response(200, "The trial with its fits.", "Retry-After"), **describe_problems(404)},
)
def show_trial(job_id: UUID, number: TrialNumber, database: Database, response: Response) -> TrialWithFits:
    """A trial with its fits and their histories."""
    with reading(database) as session:
        job = get_job_or_404(session, job_id)
        trial = queries.find_trial(session, job_id, number)
        if trial is None:
            raise NotFound("trial")
        ranks = queries.rank_trials(session, job_id, [trial])
        fits = queries.list_fits(session, job_id, number)
        histories = queries.list_epochs(session, fits)
    shown = [FitResponse.of(fit, histories[fit.id]) for fit in fits]
    response.headers.update(polling_headers(job))
    return TrialWithFits.model_validate({**read_trial_fields(trial, ranks), "fits": shown})


@router.get(
    "/{job_id}/results",
    response_model=dict[str, list[Any]],
    responses={
        **describe_response(200, "The table.", "Retry-After", content={"text/csv": {"schema": {"type": "string"}}}),
        **describe_problems(404),
    },
)
def show_results(job_id: UUID, query: Annotated[ResultsQuery, Query()], database: Database) -> Response:
    """All finished trials as scikit-learn's `cv_results_`, key for key; `format=csv` gives one line per trial."""
    with reading(database) as session:
        job = get_job_or_404(session, job_id)
        results = queries.build_cv_results(session, job)
    if query.format == "json":
        return JSONResponse(results, headers=polling_headers(job))
    disposition = f'attachment; filename="{job_id}.csv"'
    return Response(
        _write_csv(results), media_type="text/csv", headers={"Content-Disposition": disposition, **polling_headers(job)}
    )


def _describe_validation(spec: JobSpec | None, trial: Trial, folds: list[Fit]) -> Validation:
    accuracies = [fit.accuracy for fit in folds if fit.accuracy is not None]
    return Validation(
        scoring=spec.scoring if spec else None,
        mean_score=trial.validation_score or 0.0,
        std_score=trial.validation_score_std or 0.0,
        fold_scores=[fit.score for fit in folds if fit.score is not None],
        mean_accuracy=trial.validation_accuracy,
        std_accuracy=trial.validation_accuracy_std,
        fold_accuracies=accuracies or None,
    )


def describe_test(job: Job, refit: Fit) -> Test | None:
    """What the refit scored on the test set; None if this version cannot read the job."""
    spec = read_spec_or_none(job.spec)
    if refit.score is None or spec is None:
        return None
    samples, accuracy = spec.test_samples, refit.accuracy
    interval = None if accuracy is None else queries.wilson_interval(round(accuracy * samples), samples)
    return Test(
        score=refit.score,
        accuracy=accuracy,
        loss=refit.loss,
        samples=samples,
        accuracy_ci95=interval,
        confusion=refit.confusion,
    )


def _write_csv(results: Mapping[str, list[Any]]) -> str:
    text = io.StringIO()
    lines = csv.writer(text)
    lines.writerow(results)
    for row in zip(*results.values(), strict=True):
        lines.writerow([json.dumps(cell) if isinstance(cell, dict) else cell for cell in row])
    return text.getvalue()
