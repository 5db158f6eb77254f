"""Talks to a Tunewell service over HTTP, with the retries that a well-behaved client makes."""

import time
import uuid
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlsplit

import httpx2

Document = dict[str, Any]

ENDED = frozenset({"succeeded", "failed", "cancelled"})
TRY_LATER = frozenset({429, 502, 503, 504})
LONGEST_PAUSE = 10.0  # seconds, whatever Retry-After asks for
# For how many seconds a call is tried again before the service counts as unreachable.
READ_PATIENCE = 0.5
CHANGE_PATIENCE = 5.0
WATCH_PATIENCE = 300.0  # long enough for a restart of the machine
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class ServiceUnreachable(Exception):
    """Nothing that speaks Tunewell's contract answers at the URL, or it cannot serve now."""


class RequestRefused(Exception):
    """The service refused the request; `problem` is the problem document that says why."""

    def __init__(self, problem: Document) -> None:
        super().__init__(problem.get("detail") or problem.get("title"))
        self.problem = problem


class Client:
    """One method for each call of the contract; a context manager that holds the connection."""

    def __init__(self, url: str, note: Callable[[str], None] = lambda text: None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(f"a URL such as http://127.0.0.1:8000 is wanted, not {url!r}")
        self.url = url.rstrip("/")
        self.note = note
        self._http = httpx2.Client(
            base_url=self.url,
            timeout=httpx2.Timeout(30.0, connect=5.0),
            trust_env=parts.hostname not in LOOPBACK,  # a proxy is never the way to this very machine
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._http.close()

    def create(self, spec: bytes) -> Document:
        """Post a job. The idempotency key keeps it one job, however often the request has to be repeated."""
        headers = {"Content-Type": "application/json", "Idempotency-Key": str(uuid.uuid4())}
        return self._json(self._send("POST", "/v1/jobs", content=spec, headers=headers))

    def job(self, job_id: str) -> Document:
        return self._json(self._send("GET", _path(job_id)))

    def best(self, job_id: str) -> Document:
        return self._json(self._send("GET", _path(job_id, "/best")))

    def cancel(self, job_id: str, patience: float | None = None) -> Document:
        return self._json(self._send("POST", _path(job_id, "/cancel"), patience))

    def delete(self, job_id: str) -> None:
        self._send("DELETE", _path(job_id))

    def results(self, job_id: str, form: str) -> str:
        """The table of all finished trials as text, in JSON or CSV."""
        return self._send("GET", _path(job_id, "/results"), params={"format": form}).text

    def jobs(self, limit: int, **filters: str) -> Document:
        return self._page("/v1/jobs", limit, filters)

    def trials(self, job_id: str, limit: int, **filters: str) -> Document:
        return self._page(_path(job_id, "/trials"), limit, filters)

    def watch(self, job_id: str) -> Iterator[Document]:
        """The job each time it has changed, at the pace that the service asks for, until it has ended."""
        etag = ""
        while True:
            headers = {"If-None-Match": etag} if etag else {}
            response = self._send("GET", _path(job_id), WATCH_PATIENCE, headers=headers)
            if response.status_code != 304:
                etag = response.headers.get("ETag", "")
                job = self._json(response)
                yield job
                if job["state"] in ENDED:
                    return
            time.sleep(_retry_after(response, 1.0))

    def _page(self, path: str, limit: int, filters: dict[str, str]) -> Document:
        """At most `limit` items as one page, gathered from as many pages as the service makes of them."""
        items: list[Any] = []
        token: str | None = ""
        while token is not None and len(items) < limit:
            wanted = {**filters, "page_size": str(min(limit - len(items), 100))}
            page = self._json(self._send("GET", path, params={**wanted, "page_token": token} if token else wanted))
            items += page["items"]
            token = page["next_page_token"]
        return {"items": items, "next_page_token": token}

    def _send(self, method: str, path: str, patience: float | None = None, **request: Any) -> httpx2.Response:
        """The answer, asked for again for `patience` seconds while there is none or one that says 'later'."""
        if patience is None:
            patience = READ_PATIENCE if method == "GET" else CHANGE_PATIENCE
        started, pause = time.monotonic(), 0.25
        while True:
            try:
                response = self._http.request(method, path, **request)
            except httpx2.TransportError as error:
                reason, wait = f"{self.url} does not answer ({_cause(error)})", pause
            else:
                if response.status_code not in TRY_LATER:
                    return self._accepted(response)
                reason, wait = f"{self.url} cannot serve now ({_reason(response)})", _retry_after(response, pause)
            if time.monotonic() - started >= patience:
                raise ServiceUnreachable(reason)
            self.note(f"{reason}; trying again")
            time.sleep(wait)
            pause = min(pause * 2, LONGEST_PAUSE / 2)

    def _accepted(self, response: httpx2.Response) -> httpx2.Response:
        if response.status_code == 304 or response.is_success:
            return response
        if response.is_client_error and "json" in response.headers.get("Content-Type", ""):
            raise RequestRefused({"status": response.status_code, **self._json(response)})
        raise ServiceUnreachable(f"{self.url} answered {_reason(response)}")

    def _json(self, response: httpx2.Response) -> Document:
        try:
            document = response.json()
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise ServiceUnreachable(f"{self.url} answers, but not as a Tunewell service does")
        return document


def _path(job_id: str, rest: str = "") -> str:
    return f"/v1/jobs/{quote(job_id, safe='')}{rest}"


def _retry_after(response: httpx2.Response, default: float) -> float:
    """The seconds to wait that the answer asks for, kept between a tenth and `LONGEST_PAUSE`."""
    try:
        seconds = float(response.headers.get("Retry-After", default))
    except ValueError:  # the header may also hold a date
        seconds = default
    return min(max(seconds, 0.1), LONGEST_PAUSE)


def _reason(response: httpx2.Response) -> str:
    return f"{response.status_code} {response.reason_phrase}".strip()


def _cause(error: Exception) -> str:
    return str(error).strip() or type(error).__name__
