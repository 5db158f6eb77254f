"""An HTTP client of the Tunewell service that retries what is safe to repeat."""

import ssl
import time
import uuid
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self
from urllib.parse import quote

import httpx2

from app.cli.proxies import UnusableProxy, choose_proxy, parse_http_url

if TYPE_CHECKING:
    from app.cli.uploads import UploadBody

Document = dict[str, Any]

ENDED_STATES = frozenset({"succeeded", "failed", "cancelled"})
RETRYABLE_STATUSES = frozenset({429, 502, 503, 504})
MAX_RETRY_PAUSE_SECONDS = 10.0  # even if Retry-After asks for more
RESPONSE_TIMEOUT_SECONDS = 30.0
CHECK_TIMEOUT_SECONDS = 300.0  # of a data set that is uploaded
# How long a call is retried before the service counts as unreachable.
RETRY_READS_FOR_SECONDS = 0.5
RETRY_UNSENT_FOR_SECONDS = 5.0  # changes that cannot have reached the service
RETRY_CHANGES_FOR_SECONDS = 120.0  # changes that may have been made: longer than the service waits for its database
RETRY_WATCH_FOR_SECONDS = 300.0  # long enough for a restart of the machine
NEVER_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError, httpx2.UnsupportedProtocol, UnicodeError)


class ServiceUnreachable(Exception):
    """No Tunewell service responds at the URL, or it is unavailable.

    `absent`: nothing responded at all. `maybe_done`: the change may have been made nevertheless.
    """

    def __init__(self, reason: str, *, absent: bool = False, maybe_done: bool = False) -> None:
        super().__init__(reason)
        self.absent = absent
        self.maybe_done = maybe_done


class RequestRejected(Exception):
    """The service rejected the request; `problem` is its problem document (RFC 9457)."""

    def __init__(self, problem: Document) -> None:
        super().__init__(problem.get("detail") or problem.get("title"))
        self.problem = problem


class Client:
    """One method per API call; a context manager that holds the connection."""

    def __init__(self, url: str, note: Callable[[str], None] = lambda text: None) -> None:
        parts = parse_http_url(url)
        if parts is None:
            raise ValueError(f"expected a URL such as http://127.0.0.1:8000, got {url!r}")
        self.url = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"  # without credentials
        self.note = note
        self._retry_reads_for = RETRY_READS_FOR_SECONDS
        try:
            self._proxy = choose_proxy(parts)
            # Certificates are loaded for https only, so that unreadable ones do not break http.
            transport = httpx2.HTTPTransport(proxy=self._proxy, trust_env=parts.scheme == "https")
        except UnusableProxy as error:
            raise ServiceUnreachable(f"{self.url} cannot be reached: {error}") from None
        except OSError as error:
            reason = f"the certificates in SSL_CERT_FILE or SSL_CERT_DIR cannot be read ({_describe_error(error)})"
            raise ServiceUnreachable(f"{self.url} cannot be reached: {reason}") from None
        timeout = httpx2.Timeout(RESPONSE_TIMEOUT_SECONDS, connect=5.0)
        self._http = httpx2.Client(base_url=url.rstrip("/"), timeout=timeout, transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._http.close()

    def create(self, spec: bytes, key: str | None = None) -> Document:
        """Post a job; the idempotency key makes retries safe."""
        headers = {"Content-Type": "application/json", "Idempotency-Key": key or str(uuid.uuid4())}
        return self._parse(self._send("POST", "/v1/jobs", content=spec, headers=headers))

    def preview(self, spec: bytes) -> Document:
        """What the job would come to; nothing is posted."""
        headers = {"Content-Type": "application/json"}
        return self._parse(self._send("POST", "/v1/preview", self._retry_reads_for, content=spec, headers=headers))

    def get_job(self, job_id: str) -> Document:
        return self._parse(self._send("GET", _path(job_id)))

    def get_best(self, job_id: str) -> Document:
        return self._parse(self._send("GET", _path(job_id, "/best")))

    def control(self, job_id: str, verb: str, retry_for: float | None = None) -> Document:
        """Cancel, pause, resume or retry the job."""
        return self._parse(self._send("POST", _path(job_id, f"/{verb}"), retry_for))

    def delete(self, job_id: str) -> None:
        self._send("DELETE", _path(job_id))

    def get_results(self, job_id: str, form: str) -> str:
        """The table of all finished trials as text, in JSON or CSV."""
        return self._send("GET", _path(job_id, "/results"), params={"format": form}).text

    def list_jobs(self, limit: int, **filters: str) -> Document:
        return self._gather_pages("/v1/jobs", limit, filters)

    def list_trials(self, job_id: str, limit: int, **filters: str) -> Document:
        return self._gather_pages(_path(job_id, "/trials"), limit, filters)

    def list_datasets(self, limit: int) -> Document:
        return self._gather_pages("/v1/datasets", limit, {})

    def upload(self, name: str, body: "UploadBody", options: dict[str, str]) -> Document:
        """Send a data set, which the service checks before it answers; sent again, it is not stored twice."""
        sent: Document = {"params": options, "content": body, "headers": body.headers}
        timeout = httpx2.Timeout(RESPONSE_TIMEOUT_SECONDS, connect=5.0, read=CHECK_TIMEOUT_SECONDS)
        return self._parse(self._send("PUT", f"/v1/datasets/{quote(name, safe='')}", timeout=timeout, **sent))

    def watch(self, job_id: str) -> Iterator[Document]:
        """Yield the job after each change until it has ended, polling at the pace that the service asks for.

        Later reads of this client are retried as long, since the service may restart just when the job ends.
        """
        self._retry_reads_for = RETRY_WATCH_FOR_SECONDS
        etag = ""
        while True:
            headers = {"If-None-Match": etag} if etag else {}
            response = self._send("GET", _path(job_id), headers=headers)
            if response.status_code != 304:
                etag = response.headers.get("ETag", "")
                job = self._parse(response)
                yield job
                if job["state"] in ENDED_STATES:
                    return
            time.sleep(_retry_after(response, 1.0))

    def _gather_pages(self, path: str, limit: int, filters: dict[str, str]) -> Document:
        """At most `limit` items as one page, gathered from as many of the service's pages as needed."""
        items: list[Any] = []
        token: str | None = ""
        while token is not None and len(items) < limit:
            query = {**filters, "page_size": str(min(limit - len(items), 100))}
            page = self._parse(self._send("GET", path, params={**query, "page_token": token} if token else query))
            items += page["items"]
            token = page["next_page_token"]
        return {"items": items, "next_page_token": token}

    def _send(self, method: str, path: str, retry_for: float | None = None, **request: Any) -> httpx2.Response:
        """The final response; an attempt without one is retried for `retry_for` seconds."""
        started, pause, noted, absent, sent = time.monotonic(), 0.25, "", True, False
        while True:
            outcome = self._attempt(method, path, request)
            if isinstance(outcome, httpx2.Response):
                return self._check(outcome, again=sent)
            absent, sent = absent and outcome.absent, sent or outcome.sent
            if time.monotonic() - started >= (self._retry_seconds(method, sent) if retry_for is None else retry_for):
                raise ServiceUnreachable(outcome.reason, absent=absent, maybe_done=sent and method != "GET")
            if outcome.reason != noted:
                self.note(f"{outcome.reason}; retrying")
            noted = outcome.reason
            time.sleep(outcome.wait or pause)
            pause = min(pause * 2, MAX_RETRY_PAUSE_SECONDS / 2)

    def _retry_seconds(self, method: str, sent: bool) -> float:
        if method == "GET":
            return self._retry_reads_for
        return RETRY_CHANGES_FOR_SECONDS if sent else RETRY_UNSENT_FOR_SECONDS

    def _attempt(self, method: str, path: str, request: Document) -> "httpx2.Response | _Failure":
        """The response, or why there is no final one."""
        try:
            response = self._http.request(method, path, **request)
        except (httpx2.RequestError, UnicodeError) as error:  # UnicodeError: not a valid host name
            via = ", via the proxy in the environment" if self._proxy else ""
            reason = f"{self.url} does not respond ({_describe_error(error)}{via})"
            sent = not isinstance(error, NEVER_SENT)
            return _Failure(reason, 0.0, sent, absent=not (sent or self._proxy or _is_tls_error(error)))
        if response.status_code not in RETRYABLE_STATUSES:
            return response
        wait = _retry_after(response, 0.0)
        return _Failure(f"{self.url} is unavailable ({_describe_status(response)})", wait, sent=True, absent=False)

    def _check(self, response: httpx2.Response, again: bool) -> httpx2.Response:
        method, status = response.request.method, response.status_code
        if status == 304 or response.is_success:
            return response
        if again and method == "DELETE" and status == 404:  # an earlier attempt deleted it
            return response
        if (response.is_client_error or status == 507) and "json" in response.headers.get("Content-Type", ""):
            raise RequestRejected({"status": status, **self._parse(response)})
        maybe_done = response.is_server_error and method != "GET"
        raise ServiceUnreachable(f"{self.url} responded {_describe_status(response)}", maybe_done=maybe_done)

    def _parse(self, response: httpx2.Response) -> Document:
        try:
            document = response.json()
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise ServiceUnreachable(f"{self.url} responds, but is not a Tunewell service")
        return document


class _Failure(NamedTuple):
    """Why an attempt has no final response, and when to try again."""

    reason: str
    wait: float  # seconds that the service asks for; 0 if it does not
    sent: bool  # the request may have reached the service
    absent: bool  # neither the service nor a proxy responded


def _path(job_id: str, rest: str = "") -> str:
    return f"/v1/jobs/{quote(job_id, safe='')}{rest}"


def _retry_after(response: httpx2.Response, default: float) -> float:
    """Seconds to wait by the Retry-After header, at least 0.1 and at most `MAX_RETRY_PAUSE_SECONDS`."""
    try:
        return min(max(0.1, float(response.headers["Retry-After"])), MAX_RETRY_PAUSE_SECONDS)
    except (KeyError, ValueError):  # absent, or an HTTP date
        return default


def _describe_status(response: httpx2.Response) -> str:
    return f"{response.status_code} {response.reason_phrase}".strip()


def _is_tls_error(error: BaseException | None) -> bool:
    """Whether the server responded but the TLS handshake failed."""
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    return error is not None


def _describe_error(error: Exception) -> str:
    return str(error).strip() or type(error).__name__
