"""Every error as a problem document (RFC 9457) that says what is wrong and what would be right, and echoes nothing."""

import logging
import sqlite3
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException

from app.tuning.search import MOST_REFUSALS, SpecRefused

MEDIA_TYPE = "application/problem+json"
AWAY_SECONDS = 2  # a database that is away is asked for again after so long
log = logging.getLogger("tunewell.api")


class InvalidField(BaseModel):
    """One thing that is wrong with a request."""

    pointer: str = Field(description="JSON pointer (RFC 6901) into the body, or the parameter's name after a slash.")
    message: str


class ProblemDocument(BaseModel):
    """RFC 9457."""

    model_config = ConfigDict(title="Problem")

    type: str
    title: str
    status: int
    detail: str
    errors: list[InvalidField] | None = Field(None, description="Of a refused request: ten at most.")


class Problem(HTTPException):
    """An answer that is an error."""

    def __init__(
        self,
        status: int,
        detail: str,
        errors: Sequence[tuple[str, str]] = (),
        headers: Mapping[str, str] | None = None,
        kind: str = "about:blank",
    ) -> None:
        super().__init__(status, detail, headers)
        self.errors = errors
        self.kind = kind


class NotFound(Problem):
    """There is no such job or trial."""

    def __init__(self, what: str) -> None:
        super().__init__(404, f"There is no such {what}.")


class Conflict(Problem):
    """What was asked for does not go with the job's state."""

    def __init__(self, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(409, detail, headers=headers, kind="urn:tunewell:problem:state")


def document(problem: Problem) -> JSONResponse:
    """The answer that a problem is sent as."""
    body: dict[str, Any] = {
        "type": problem.kind,
        "title": HTTPStatus(problem.status_code).phrase,
        "status": problem.status_code,
        "detail": problem.detail,
    }
    if problem.errors:
        body["errors"] = [{"pointer": pointer, "message": message} for pointer, message in problem.errors]
    return JSONResponse(body, problem.status_code, problem.headers, MEDIA_TYPE)


def refused(errors: Sequence[tuple[str, str]]) -> Problem:
    """A request that cannot be done as it stands."""
    told = [(_cut(pointer, 200), _cut(message, 400)) for pointer, message in errors[:MOST_REFUSALS]]
    return Problem(422, "The request is refused; see errors.", told, kind="urn:tunewell:problem:refused")


def pointer(path: Sequence[str | int]) -> str:
    """A path as a JSON pointer."""
    return "".join(f"/{str(step).replace('~', '~0').replace('/', '~1')}" for step in path)


def install(app: FastAPI) -> None:
    """Answer every error of this app with a problem document."""
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(SpecRefused, _on_refused)
    app.add_exception_handler(SQLAlchemyError, _on_database)
    app.add_exception_handler(Exception, _on_crash)


async def _on_http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    if isinstance(error, Problem):
        return document(error)
    details = {
        404: "There is nothing here; GET /openapi.json lists what there is.",
        405: f"{request.method} is not for this address.",
        413: "The body is larger than 64 KiB.",
    }
    detail = details.get(error.status_code, HTTPStatus(error.status_code).phrase)
    return document(Problem(error.status_code, detail, headers=error.headers))


async def _on_invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return document(refused([_told(one, error.body) for one in error.errors()[:MOST_REFUSALS]]))


async def _on_refused(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, SpecRefused)
    return document(refused([(pointer(path), message) for path, message in error.refusals]))


async def _on_database(_: Request, error: Exception) -> JSONResponse:
    if isinstance(error, OperationalError | InterfaceError | PoolTimeout):
        log.warning("database away", extra={"reason": type(error).__name__})
        full = isinstance(getattr(error, "orig", None), sqlite3.OperationalError) and "full" in str(error)
        detail = "The database has no space left." if full else "The database cannot be reached; try again."
        return document(Problem(503, detail, headers={"Retry-After": str(AWAY_SECONDS)}))
    return await _on_crash(_, error)


async def _on_crash(_: Request, error: Exception) -> JSONResponse:
    log.error("request failed", exc_info=error)
    return document(Problem(500, "Something went wrong here; the service's log tells what."))


def _told(error: Mapping[str, Any], body: Any) -> tuple[str, str]:
    where, *path = error["loc"]
    message = str(error["msg"]).removeprefix("Value error, ")
    if where == "body":
        path = _real(path, body, error["type"] == "missing")
        message = "A JSON object is needed here." if not path and not isinstance(body, dict) else message
    return pointer(path), message


def _real(path: Sequence[str | int], body: Any, missing: bool) -> list[str | int]:
    """The steps that lead through the body: pydantic's has the names of its unions' members in between."""
    steps: list[str | int] = []
    for index, step in enumerate(path):
        if _leads_on(body, step):
            body = body[step]
        elif not (missing and index == len(path) - 1):
            continue
        steps.append(step)
    return steps


def _leads_on(body: Any, step: str | int) -> bool:
    if isinstance(body, dict):
        return step in body
    return isinstance(body, list) and isinstance(step, int) and 0 <= step < len(body)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
