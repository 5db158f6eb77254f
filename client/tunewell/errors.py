"""What goes wrong with a request, as exceptions."""

from collections.abc import Mapping
from typing import Any

Document = dict[str, Any]


class Error(Exception):
    """The base of all errors of this package.

    `status` is the response's, none if there was none; `errors` is the list of invalid parts of a rejected request,
    each with a `pointer` (RFC 6901) and a `message`; `problem` is the whole problem document (RFC 9457).
    """

    def __init__(self, message: str, problem: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.problem: Document = dict(problem or {})
        self.status: int | None = self.problem.get("status")
        self.errors: list[Document] = list(self.problem.get("errors") or [])


class ServiceUnreachable(Error):
    """No Tunewell service responds at the URL, or it is unavailable.

    `absent`: nothing responded at all. `maybe_done`: the change may have been made nevertheless.
    """

    def __init__(self, reason: str, *, absent: bool = False, maybe_done: bool = False) -> None:
        super().__init__(reason)
        self.absent = absent
        self.maybe_done = maybe_done


class RequestRejected(Error):
    """The service rejected the request; the message names its first invalid parts."""


class NotFound(RequestRejected):
    """There is no such job, trial, data set or model."""


class Conflict(RequestRejected):
    """The state of the job or data set does not allow the request."""


class NotServed(RequestRejected):
    """The service has no such route: it is older than this client, or an extra is not installed there."""


class CannotConvert(Error, ValueError):
    """Tunewell has no equal of the object; the message says what it has."""


class MissingPackage(Error, ImportError):
    """A package that this call needs is not installed here."""


def make_rejection(problem: Document, call: str, url: str) -> RequestRejected:
    """The exception for a problem document; `call` is the request, such as `PUT /v1/datasets/mine`."""
    status, detail = problem.get("status"), str(problem.get("detail") or problem.get("title"))
    if status == 405 or (status == 404 and detail.startswith("No such path")):
        detail = f"the service at {url} has no {call}: it is older than this client, update it"
        return NotServed(detail, {**problem, "detail": detail})
    lines = [f"{_describe_place(error)}: {error.get('message')}" for error in problem.get("errors") or []]
    kinds = {404: NotFound, 409: Conflict, 501: NotServed}
    return kinds.get(status or 0, RequestRejected)("\n  ".join([detail, *lines]), problem)


def _describe_place(error: Document) -> str:
    """Where an error is: in a table or archive that was uploaded, or in the body of the request."""
    places = [f"{name} {error[name]}" for name in ("file", "row", "column") if error.get(name) is not None]
    return ", ".join(places) or error.get("pointer") or "the body"


def require(module: str, what: str) -> Any:
    """The imported module.

    Raises:
        MissingPackage: it is not installed; the message says for what it is needed, and how to install it.
    """
    from importlib import import_module

    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        package = {"sklearn": "scikit-learn"}.get(module.partition(".")[0], module.partition(".")[0])
        raise MissingPackage(f"{what} needs {package}, which is not installed: pip install {package}") from error
