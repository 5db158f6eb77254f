"""The model that a job keeps: its manifest and its files."""

import base64
import re
from collections.abc import Iterator
from typing import Annotated, Literal, NamedTuple, cast
from uuid import UUID

from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import StreamingResponse

from app.api.dependencies import Database, get_job_or_404, polling_headers
from app.api.jobs import KnownTags, list_tags
from app.api.openapi import describe_problems, describe_response
from app.api.problems import Conflict, Problem, ServiceUnavailable
from app.api.results import describe_test
from app.api.schemas.models import ModelFormat, ModelManifest
from app.api.strict_json import StrictRoute
from app.tuning import storage
from app.tuning.database import reading
from app.tuning.jobs import queries
from app.tuning.jobs.tables import ENDED_JOB, Job, JobState, State
from app.tuning.saved_models import SavedFile, SavedModel, find_file, name_model_file
from app.tuning.search.stored import read_spec_or_none

RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)  # several ranges are answered with the whole file
RANGE_HEADER = Header(alias="Range", description="One range of bytes, such as `bytes=1000-`.")
BINARY = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
Format = Literal["keras", "joblib", "onnx"]
PROGRAMS = ("joblib",)  # formats that run code when they are loaded
router = APIRouter(
    prefix="/v1/jobs", tags=["jobs"], route_class=StrictRoute, responses=describe_problems(413, 421, 422, 500, 503)
)


class FilePart(NamedTuple):
    """The bytes of a file from `start` to before `end`."""

    start: int
    end: int


@router.get(
    "/{job_id}/model",
    responses={**describe_response(200, "The model's manifest."), **describe_problems(404, 409)},
)
def show_model(job_id: UUID, database: Database) -> ModelManifest:
    """What there is of the model that was trained on all training samples with the best hyperparameters."""
    with reading(database) as session:
        job = get_job_or_404(session, job_id)
        model = get_model_or_409(job)
        assert job.best_trial is not None
        trial = queries.find_trial(session, job_id, job.best_trial)
        fits = queries.list_fits(session, job_id, job.best_trial)
    assert trial is not None
    refit = next(fit for fit in fits if fit.fold is None and fit.state == State.SUCCEEDED)
    spec = read_spec_or_none(job.spec)
    return ModelManifest.model_validate(
        {
            **model,
            "job_id": job_id,
            "trial": trial.number,
            "params": queries.with_epochs(trial.params, spec.resource if spec else None, trial.n_resources),
            "formats": [_describe_file(job_id, file) for file in model["files"]],
            "test": describe_test(job, refit),
        }
    )


@router.get(
    "/{job_id}/model/{form}",
    response_class=Response,
    responses={
        **describe_response(200, "The file.", "ETag", "Repr-Digest", content=BINARY),
        **describe_response(206, "The range of the file.", "ETag", "Repr-Digest", content=BINARY),
        **describe_response(304, "The file is unchanged: it matches one of the ETags.", "ETag"),
        **describe_problems(404, 409, 416),
    },
)
def fetch_model(
    job_id: UUID,
    form: Format,
    request: Request,
    database: Database,
    known: KnownTags,
    _: Annotated[str | None, RANGE_HEADER] = None,
) -> Response:
    """A file of the model."""
    with reading(database) as session:
        job = get_job_or_404(session, job_id)
        model = get_model_or_409(job)
    file = get_file_or_404(model, form)
    tag = f'"{file["sha256"]}"'
    headers = {"ETag": tag, "Repr-Digest": _make_digest(file), "Accept-Ranges": "bytes"}
    if tag in known or "*" in known:
        return Response(status_code=304, headers=headers)
    part = _choose_part(request, tag, file["bytes"])
    status = 206 if part else 200
    start, end = part or FilePart(0, file["bytes"])
    if part:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{file['bytes']}"
    headers["Content-Length"] = str(end - start)
    headers["Content-Disposition"] = f'attachment; filename="{job.name or job_id}.{form}"'
    return StreamingResponse(
        open_or_503(name_model_file(job_id, file), start, end), status, headers, "application/octet-stream"
    )


def get_model_or_409(job: Job) -> SavedModel:
    """What the job's row says of its model.

    Raises:
        Conflict: there is none, and why.
    """
    if job.saved_model:
        return cast(SavedModel, job.saved_model)
    raise Conflict(_explain_absence(job), polling_headers(job))


def get_file_or_404(model: SavedModel, form: str) -> SavedFile:
    """The model's file of this format.

    Raises:
        Problem: there is none, and why.
    """
    if file := find_file(model, form):
        return file
    known = ", ".join(one["format"] for one in model["files"])
    reason = model["left_out"].get(form, "the model is of another kind")
    raise Problem(404, f"There is no {form} file of this model: {reason}. There is: {known}.")


def _explain_absence(job: Job) -> str:
    if job.state not in ENDED_JOB:
        return f"The job is {job.state}: its model is there once it has succeeded."
    if job.state != JobState.SUCCEEDED:
        return f"The job is {job.state}: only a job that has succeeded has a model."
    spec = read_spec_or_none(job.spec)
    again = "post it again with that, and only its winner is trained"
    if spec and not spec.evaluation.refit:
        return f"The job was posted without `refit`, so no model was trained on all samples: {again}."
    if spec and not spec.evaluation.keep_model:
        return f"The job was posted without `keep_model`: {again}."
    return "A version of Tunewell that kept no models ran the job: post it again, and only its winner is trained."


def _describe_file(job_id: UUID, file: SavedFile) -> ModelFormat:
    href, is_program = f"/v1/jobs/{job_id}/model/{file['format']}", file["format"] in PROGRAMS
    return ModelFormat.model_validate({**file, "href": href, "is_program": is_program})


def _make_digest(file: SavedFile) -> str:
    """RFC 9530: the digest of the whole file, whatever part of it is sent."""
    return f"sha-256=:{base64.b64encode(bytes.fromhex(file['sha256'])).decode()}:"


def _choose_part(request: Request, tag: str, size: int) -> FilePart | None:
    """The range that is asked for (RFC 9110); None for the whole file.

    Raises:
        Problem: it begins beyond the end.
    """
    asked = RANGE.fullmatch(request.headers.get("Range", "").strip())
    is_changed = "If-Range" in request.headers and tag not in list_tags(request, "If-Range")
    if not asked or not any(asked.groups()) or is_changed:
        return None
    first, last = asked.groups()
    if first and last and int(last) < int(first):  # invalid, so that it counts as none
        return None
    part = FilePart(int(first), min(size, int(last or size) + 1)) if first else FilePart(max(0, size - int(last)), size)
    if part.start >= size:
        detail = f"The file has {size} bytes: ask for a range within 0-{size - 1}."
        raise Problem(416, detail, {"Content-Range": f"bytes */{size}"})
    return part


def open_or_503(key: str, start: int, end: int) -> Iterator[bytes]:
    """The bytes of a stored file; once they are being sent, no error can be told any more.

    Raises:
        ServiceUnavailable: the storage is away, or does not have the file.
    """
    try:
        return storage.open_file(key, start, end).pieces
    except storage.StorageAway as error:
        raise ServiceUnavailable(f"{error}; try again.") from error
    except FileNotFoundError as error:
        detail = "The file is not in the storage: give API and workers one TUNEWELL_STORAGE_URL that all of them reach."
        raise ServiceUnavailable(detail) from error
