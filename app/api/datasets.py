"""Data sets: the built-in ones and the clients' own, which are uploaded, checked, stored and deleted here."""

import logging
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path as FilePath
from typing import Annotated, Any

import anyio.to_thread
from fastapi import APIRouter, Depends, Path, Query, Request, Response
from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError
from starlette.requests import ClientDisconnect

from app.api.dependencies import Database
from app.api.openapi import describe_problems, describe_response
from app.api.pagination import DatasetsQuery, encode_page_token
from app.api.problems import Conflict, NotFound, Problem, reject_file
from app.api.schemas.datasets import DatasetPage, DatasetResponse, UploadQuery
from app.api.strict_json import StrictRoute
from app.api.threads import in_writer_thread
from app.api.uploads import Gate, check_headers, drain_body, receive_file
from app.intake.answers import Description, Options, Refusal
from app.intake.run import convert
from app.tuning import storage
from app.tuning.database import reading, writing
from app.tuning.jobs import datasets
from app.tuning.jobs.tables import StoredDataset
from app.tuning.search.datasets import DATASETS, Dataset
from app.tuning.search.spec import NAME
from app.tuning.settings import settings
from app.tuning.spool import open_spool

CHECK_SECONDS = 150.0
PUT_TRIES = 3
PICTURE_HEADERS = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "default-src 'none'"}
log = logging.getLogger("tunewell.api")
router = APIRouter(
    prefix="/v1/datasets",
    tags=["datasets"],
    route_class=StrictRoute,
    responses=describe_problems(413, 421, 422, 500, 503),
)
DatasetName = Annotated[str, Path(pattern=NAME, max_length=64)]
Converter = Callable[[FilePath, FilePath, Options, float], Description | Refusal]


async def get_converter() -> Converter:
    """What checks and converts uploaded files."""
    return convert


async def get_gate(request: Request) -> Gate:
    """The app's limit of simultaneous uploads."""
    state = request.app.state
    if not hasattr(state, "gate"):
        state.gate = Gate()
    found: Gate = state.gate
    return found


@router.get("", responses=describe_response(200, "A page of data sets."))
def list_datasets(query: Annotated[DatasetsQuery, Query()], database: Database) -> DatasetPage:
    """The data sets: the built-in ones first, then the newest."""
    place = query.place()
    first = [] if place else [DatasetResponse.of_built_in(one) for one in DATASETS.values()]
    with reading(database) as session:
        found = datasets.list_page_of_datasets(session, place, query.page_size + 1)
        jobs = datasets.count_jobs(session, found)
    page = found[: query.page_size]
    last = page[-1] if len(found) > len(page) else None
    return DatasetPage(
        items=[*first, *(DatasetResponse.of(one, jobs[one.name]).shorten() for one in page)],
        next_page_token=encode_page_token(query.pages, (last.created_at, last.id)) if last else None,
    )


@router.get("/{name}", responses={**describe_response(200, "The data set."), **describe_problems(404)})
def show_dataset(name: DatasetName, database: Database) -> DatasetResponse:
    """A data set: its shape, class counts or columns, warnings, and how many jobs use it."""
    if name in DATASETS:
        return DatasetResponse.of_built_in(DATASETS[name])
    return _show_stored(database, name)


@router.get(
    "/{name}/preview",
    response_class=Response,
    responses={
        **describe_response(200, "Ten samples of each of the first ten classes, as PNG."),
        **describe_problems(404),
    },
)
def show_preview(name: DatasetName, database: Database) -> Response:
    """A picture of samples of an own data set of images."""
    with reading(database) as session:
        found = datasets.find_dataset(session, name)
    if not found or found.kind != "image":
        raise NotFound("picture: only own data sets of images have one")
    try:
        picture = storage.open_file(f"{datasets.make_folder(found.sha256)}/{datasets.PREVIEW}")
    except FileNotFoundError:
        raise NotFound("picture") from None
    return Response(b"".join(picture.pieces), media_type="image/png", headers=PICTURE_HEADERS)


@router.put(
    "/{name}",
    status_code=201,
    response_model=DatasetResponse,
    responses={
        **describe_response(201, "The data set is stored.", "Location", "ETag"),
        **describe_response(200, "It was stored before, or is only checked (`dry_run`).", "ETag"),
        **describe_problems(403, 408, 409, 415, 507),
    },
    openapi_extra={
        "requestBody": {
            "required": True,
            "description": "The file itself: npz, CSV, CSV.gz, or a zip of image folders or of IDX .gz files.",
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def put_dataset(
    name: DatasetName,
    request: Request,
    query: Annotated[UploadQuery, Query()],
    database: Database,
    converter: Annotated[Converter, Depends(get_converter)],
    gate: Annotated[Gate, Depends(get_gate)],
) -> Response:
    """Upload a data set: the body is the file, which is checked and converted while you wait."""
    try:
        if name in DATASETS:
            raise Conflict(f"{name} is built in: use another name.")
        check_headers(request)
        async with gate.enter():
            with open_spool() as folder:
                return await _take_file(name, request, query, database, partial(_check, converter), gate, folder)
    except ClientDisconnect:
        raise Problem(400, "The body has ended early.") from None  # nobody reads it
    except Problem:
        await drain_body(request)
        raise


async def _take_file(
    name: str,
    request: Request,
    query: UploadQuery,
    database: Engine,
    check: Callable[[FilePath, FilePath, Options], Description],
    gate: Gate,
    folder: FilePath,
) -> Response:
    sha256, size = await receive_file(request, folder / "file")
    (folder / "arrays").mkdir()
    async with gate.check():
        found = await anyio.to_thread.run_sync(check, folder / "file", folder / "arrays", query.options(name))
    source = {"format": found.format, "bytes": size, "sha256": sha256}
    store = in_writer_thread(_store)
    status, shown = await store(database, _describe(name, found), source, found, folder / "arrays", query.dry_run)
    headers = {"ETag": f'"{shown.sha256}"'}
    if status == 201:
        headers["Location"] = f"{request.scope.get('root_path', '')}/v1/datasets/{name}"
    return Response(shown.model_dump_json(), status, headers, "application/json")


def _check(converter: Converter, file: FilePath, folder: FilePath, options: Options) -> Description:
    found = converter(file, folder, options, CHECK_SECONDS)
    if isinstance(found, Refusal):
        raise reject_file(found.status, found.detail, found.errors)
    return found


def _describe(name: str, found: Description) -> Dataset:
    return Dataset.model_validate({**asdict(found), "name": name, "description": "", "download": False})


def _store(
    database: Engine, facts: Dataset, source: dict[str, Any], found: Description, folder: FilePath, dry_run: bool
) -> tuple[int, DatasetResponse]:
    """Put the files, then write the row; the response's status, and the data set."""
    shown = {**asdict(found), "source": source}
    if known := _find_same(database, facts, found):
        return 200, known
    with reading(database) as session:
        if datasets.count_stored_bytes(session) + found.bytes > settings().storage_bytes:
            raise Problem(507, "The data sets together are as large as TUNEWELL_STORAGE_BYTES allows: delete some.")
    if dry_run:
        return 200, DatasetResponse.of_checked(facts, shown)
    for _ in range(PUT_TRIES):
        _put_files(folder, found.sha256)
        try:
            with writing(database) as session:
                row = datasets.insert_dataset(session, facts, shown, found.sha256, found.bytes)
                return 201, DatasetResponse.of(row, 0)
        except IntegrityError:  # another PUT of this name was faster
            if known := _find_same(database, facts, found):
                return 200, known
        except datasets.FilesMissing:
            continue
    raise Conflict("The name or the content is being stored and deleted at once: try again.")


def _put_files(folder: FilePath, sha256: str) -> None:
    for file in sorted(folder.iterdir()):
        storage.put_file(f"{datasets.make_folder(sha256)}/{file.name}", file)


def _find_same(database: Engine, facts: Dataset, found: Description) -> DatasetResponse | None:
    """The data set with this name, if it is the same; a 409 if it is another."""
    with reading(database) as session:
        known = datasets.find_dataset(session, facts.name)
        if known is None:
            return None
        same = Dataset.model_validate(known.facts) == facts and known.sha256 == found.sha256
        if not same:
            raise Conflict(f"{facts.name} is the name of other content: use another name, or delete that first.")
        return DatasetResponse.of(known, datasets.count_jobs(session, [known])[facts.name])


def _show_stored(database: Engine, name: str) -> DatasetResponse:
    with reading(database) as session:
        found: StoredDataset | None = datasets.find_dataset(session, name)
        if found is None:
            raise NotFound("data set")
        return DatasetResponse.of(found, datasets.count_jobs(session, [found])[name])


@router.delete(
    "/{name}",
    status_code=204,
    responses={**describe_response(204, "The data set is deleted."), **describe_problems(403, 404, 409)},
)
@in_writer_thread
def delete_dataset(name: DatasetName, database: Database) -> None:
    """Delete an own data set that no unfinished job uses."""
    if name in DATASETS:
        raise Conflict(f"{name} is built in and cannot be deleted.")
    try:
        with writing(database) as session:
            sha256 = datasets.delete_dataset_row(session, name)
    except datasets.DatasetInUse as error:
        raise Conflict(str(error)) from None
    if sha256 is None:
        raise NotFound("data set")
    try:
        with writing(database) as session:
            datasets.delete_files(session, sha256)
    except storage.StorageAway as error:
        log.warning("files of a deleted data set are left to housekeeping", extra={"reason": str(error)})
