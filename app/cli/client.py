"""Talks to a Tunewell service over HTTP, with the retries that a well-behaved client makes."""

import ssl
import time
import uuid
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import quote

import httpx2

from app.cli.proxies import UnusableProxy, choose_proxy, parse_http_url

Document = dict[str, Any]

ENDED = frozenset({"succeeded", "failed", "cancelled"})
TRY_LATER = frozenset({429, 502, 503, 504})
MAX_RETRY_PAUSE_SECONDS = 10.0  # seconds, whatever Retry-After asks for
RESPONSE_TIMEOUT = 30.0  # seconds for one attempt
# For how many seconds a call is tried again before the service counts as unreachable.
RETRY_READS_FOR_SECONDS = 0.5
ABSENT_PATIENCE = 5.0  # for a change while nothing is there to take it
RETRY_CHANGES_FOR_SECONDS = (
    120.0  # for a change that may have been made: longer than the service waits for its database
)
RETRY_WATCH_FOR_SECONDS = 300.0  # long enough for a restart of the machine
NEVER_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError, httpx2.UnsupportedProtocol, UnicodeError)


class ServiceUnreachable(Exception):
    """Nothing that speaks Tunewell's contract responds at the URL, or it cannot serve now.

    `absent`: nothing responded at all. `maybe_done`: the change may have been made all the same.
    """

    def __init__(self, reason: str, *, absent: bool = False, maybe_done: bool = False) -> None:
        super().__init__(reason)
        self.absent = absent
        self.maybe_done = maybe_done


class RequestRejected(Exception):
    """The service refused the request; `problem` is the problem document that says why."""

    def __init__(self, problem: Document) -> None:
        super().__init__(problem.get("detail") or problem.get("title"))
        self.problem = problem


class Client:
    """One method for each call of the contract; a context manager that holds the connection."""

    def __init__(self, url: str, note: Callable[[str], None] = lambda text: None) -> None:
        parts = parse_http_url(url)
        if parts is None:
            raise ValueError(f"a URL such as http://127.0.0.1:8000 is wanted, not {url!r}")
        self.url = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"  # as it may be shown
        self.note = note
        self._read_patience = RETRY_READS_FOR_SECONDS
        try:
            self._proxy = choose_proxy(parts)
            # For a URL without TLS, certificates that cannot be read are no obstacle.
            transport = httpx2.HTTPTransport(proxy=self._proxy, trust_env=parts.scheme == "https")
        except UnusableProxy as error:
            raise ServiceUnreachable(f"{self.url} cannot be asked: {error}") from None
        except OSError as error:
            named = f"what SSL_CERT_FILE or SSL_CERT_DIR names cannot be read ({_cause(error)})"
            raise ServiceUnreachable(f"{self.url} cannot be asked: {named}") from None
        timeout = httpx2.Timeout(RESPONSE_TIMEOUT, connect=5.0)
        self._http = httpx2.Client(base_url=url.rstrip("/"), timeout=timeout, transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._http.close()

    def create(self, spec: bytes, key: str | None = None) -> Document:
        """Post a job. The idempotency key keeps it one job, however often the request has to be repeated."""
        headers = {"Content-Type": "application/json", "Idempotency-Key": key or str(uuid.uuid4())}
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
        """The job each time it has changed, at the pace that the service asks for, until it has ended.

        What is read afterwards is waited for as patiently: the service may restart at that very moment.
        """
        self._read_patience = RETRY_WATCH_FOR_SECONDS
        etag = ""
        while True:
            headers = {"If-None-Match": etag} if etag else {}
            response = self._send("GET", _path(job_id), headers=headers)
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
        """The response, asked for again for `patience` seconds while there is none or one that says 'later'."""
        started, pause, noted, absent, sent = time.monotonic(), 0.25, "", True, False
        while True:
            outcome = self._attempt(method, path, request)
            if isinstance(outcome, httpx2.Response):
                return self._accepted(outcome, again=sent)
            absent, sent = absent and outcome.absent, sent or outcome.sent
            if time.monotonic() - started >= (self._patience(method, sent) if patience is None else patience):
                raise ServiceUnreachable(outcome.reason, absent=absent, maybe_done=sent and method != "GET")
            if outcome.reason != noted:
                self.note(f"{outcome.reason}; trying again")
            noted = outcome.reason
            time.sleep(outcome.wait or pause)
            pause = min(pause * 2, MAX_RETRY_PAUSE_SECONDS / 2)

    def _patience(self, method: str, sent: bool) -> float:
        if method == "GET":
            return self._read_patience
        return RETRY_CHANGES_FOR_SECONDS if sent else ABSENT_PATIENCE

    def _attempt(self, method: str, path: str, request: Document) -> "httpx2.Response | _Failure":
        """The response, or why there is none that is final."""
        try:
            response = self._http.request(method, path, **request)
        except (httpx2.RequestError, UnicodeError) as error:  # UnicodeError: a name that cannot be one in DNS
            through = ", through the environment's proxy" if self._proxy else ""
            reason = f"{self.url} does not answer ({_cause(error)}{through})"
            sent = not isinstance(error, NEVER_SENT)
            return _Failure(reason, 0.0, sent, absent=not (sent or self._proxy or _is_of_tls(error)))
        if response.status_code not in TRY_LATER:
            return response
        wait = _retry_after(response, 0.0)
        return _Failure(f"{self.url} cannot serve now ({_reason(response)})", wait, sent=True, absent=False)

    def _accepted(self, response: httpx2.Response, again: bool) -> httpx2.Response:
        method, status = response.request.method, response.status_code
        if status == 304 or response.is_success:
            return response
        if again and method == "DELETE" and status == 404:  # an earlier attempt has deleted it
            return response
        if response.is_client_error and "json" in response.headers.get("Content-Type", ""):
            raise RequestRejected({"status": status, **self._json(response)})
        maybe_done = response.is_server_error and method != "GET"
        raise ServiceUnreachable(f"{self.url} answered {_reason(response)}", maybe_done=maybe_done)

    def _json(self, response: httpx2.Response) -> Document:
        try:
            document = response.json()
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise ServiceUnreachable(f"{self.url} answers, but not as a Tunewell service does")
        return document


class _Failure(NamedTuple):
    """Why an attempt has no final response, and when to try again."""

    reason: str
    wait: float  # seconds; 0 for as the client likes
    sent: bool  # the request may have reached the service
    absent: bool  # nothing that was asked responded in any way


def _path(job_id: str, rest: str = "") -> str:
    return f"/v1/jobs/{quote(job_id, safe='')}{rest}"


def _retry_after(response: httpx2.Response, default: float) -> float:
    """The seconds to wait that the answer asks for, kept between a tenth and `LONGEST_PAUSE`."""
    try:
        return min(max(0.1, float(response.headers["Retry-After"])), MAX_RETRY_PAUSE_SECONDS)
    except (KeyError, ValueError):  # the header may also hold a date
        return default


def _reason(response: httpx2.Response) -> str:
    return f"{response.status_code} {response.reason_phrase}".strip()


def _is_of_tls(error: BaseException | None) -> bool:
    """Whether the error comes from a server with which no TLS connection could be made."""
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    return error is not None


def _cause(error: Exception) -> str:
    return str(error).strip() or type(error).__name__
