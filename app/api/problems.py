"""Every error as a problem document (RFC 9457): what is wrong and what is expected, without echoing the input."""

import logging
import sqlite3
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException

from app.api.field_errors import MAX_MESSAGE_LENGTH, Path, describe_errors, json_pointer, truncate
from app.tuning.outages import AWAY
from app.tuning.search.rejections import MAX_REJECTIONS, SpecRejected
from app.tuning.storage import StorageAway

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 2  # when the database is unavailable
# RFC 9110's; those of the standard library depend on Python's version.
TITLES = {413: "Content Too Large", 422: "Unprocessable Content"}
DETAILS = {
    404: "No such path; GET /openapi.json lists the known ones.",
    413: "The body is larger than 64 KiB.",
    415: "The body must be JSON in UTF-8, with the header Content-Type: application/json.",
}
log = logging.getLogger("tunewell.api")


class InvalidField(BaseModel):
    """One invalid part of a request."""

    pointer: str = Field(description="JSON pointer (RFC 6901) into the body, or the parameter's name after a slash.")
    message: str
    row: int | None = Field(None, description="Of an uploaded table, as an editor counts: the header is row 1.")
    column: str | None = None
    file: str | None = Field(None, description="In an uploaded archive.")


class ProblemDocument(BaseModel):
    """RFC 9457."""

    model_config = ConfigDict(title="Problem")

    type: str
    title: str
    status: int
    detail: str
    errors: list[InvalidField] = Field(
        [], max_length=MAX_REJECTIONS, description="The invalid parts of a rejected request."
    )
    checks: dict[str, str] = Field({}, description="The state of each part of a service that is not ready.")


class Problem(HTTPException):
    """An error response; `more` are further members of its document."""

    def __init__(
        self,
        status: int,
        detail: str = "",
        headers: Mapping[str, str] | None = None,
        kind: str = "about:blank",
        more: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(status, detail or DETAILS.get(status, ""), headers)
        self.kind = kind
        self.more = more or {}


class NotFound(Problem):
    """No such job or trial."""

    def __init__(self, what: str) -> None:
        super().__init__(404, f"No such {what}.")


class Conflict(Problem):
    """The job's state does not allow the request."""

    def __init__(self, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(409, detail, headers, "urn:tunewell:problem:state")


class ServiceUnavailable(Problem):
    """The service cannot handle requests for now."""

    def __init__(self, detail: str = "The database cannot be reached; try again.", **more: Any) -> None:
        super().__init__(503, detail, {"Retry-After": str(RETRY_AFTER_SECONDS)}, more=more)


def reject_request(errors: Sequence[tuple[Path, str]]) -> Problem:
    """The problem of an invalid request: the path of each error, and what is expected there."""
    shown = [
        {"pointer": json_pointer(path), "message": truncate(message, MAX_MESSAGE_LENGTH)}
        for path, message in errors[:MAX_REJECTIONS]
    ]
    detail = "The request is invalid; see errors."
    return Problem(422, detail, kind="urn:tunewell:problem:refused", more={"errors": shown})


def reject_file(status: int, detail: str, errors: Sequence[Mapping[str, Any]]) -> Problem:
    """The problem of an uploaded file that cannot be used as it is."""
    return Problem(status, detail, kind="urn:tunewell:problem:data-refused", more={"errors": list(errors)})


def status_title(status: int) -> str:
    """The status's reason phrase."""
    return TITLES.get(status) or HTTPStatus(status).phrase


def problem_response(problem: Problem) -> JSONResponse:
    """The response for a problem."""
    status = problem.status_code
    own = {"type": problem.kind, "title": status_title(status), "status": status, "detail": problem.detail}
    return JSONResponse({**own, **problem.more}, status, problem.headers, MEDIA_TYPE)


def install_handlers(app: FastAPI) -> None:
    """Turn every error of this app into a problem document."""
    app.add_exception_handler(HTTPException, _handle_http)
    app.add_exception_handler(RequestValidationError, _handle_invalid)
    app.add_exception_handler(SpecRejected, _handle_rejected)
    app.add_exception_handler(StorageAway, _handle_storage)
    app.add_exception_handler(SQLAlchemyError, _handle_database)
    app.add_exception_handler(Exception, _handle_crash)


async def _handle_http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    if isinstance(error, Problem):
        return problem_response(error)
    status, headers = error.status_code, error.headers
    if status != 405:
        return problem_response(Problem(status, "" if status in DETAILS else status_title(status), headers))
    # The framework's Allow header has only the methods of the first route with this path.
    served: dict[str, Any] = request.app.openapi()["paths"].get(getattr(request.scope.get("route"), "path", ""), {})
    methods = {method.upper() for method in served} or set((headers or {}).get("Allow", "").split(", "))
    allowed = ", ".join(sorted(methods | {"HEAD"} if "GET" in methods else methods))
    return problem_response(Problem(405, f"Allowed methods: {allowed}.", {"Allow": allowed}))


async def _handle_invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    body = getattr(request.scope.get("route"), "body_field", None)
    posted = body.field_info.annotation if body else BaseModel
    found = [place for one in error.errors()[:MAX_REJECTIONS] for place in describe_errors(one, error.body, posted)]
    return problem_response(reject_request(found))


async def _handle_rejected(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, SpecRejected)
    return problem_response(reject_request(error.rejections))


async def _handle_storage(_: Request, error: Exception) -> JSONResponse:
    log.warning("the storage is away", extra={"reason": str(error)})
    return problem_response(ServiceUnavailable("The storage cannot be reached; try again."))


async def _handle_database(_: Request, error: Exception) -> JSONResponse:
    if isinstance(error, AWAY):
        full = isinstance(getattr(error, "orig", None), sqlite3.OperationalError) and "full" in str(error)
        return problem_response(ServiceUnavailable("The database has no space left.") if full else ServiceUnavailable())
    return await _handle_crash(_, error)


async def _handle_crash(_: Request, error: Exception) -> JSONResponse:
    log.error("request failed", exc_info=error)
    return problem_response(Problem(500, "Internal error; see the service log."))
