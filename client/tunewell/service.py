"""What a client knows of its service, and how it retries what is safe to repeat, without any input or output."""

import os
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import SplitResult

import httpx2

from tunewell.calls import Call
from tunewell.effects import TRANSPORT_ERRORS, Document, Flow, Open, Send, Sleep
from tunewell.errors import ServiceUnreachable, make_rejection
from tunewell.proxies import UnusableProxy, choose_proxy, parse_http_url

DEFAULT_URL = "http://127.0.0.1:8000"
ENDED_STATES = frozenset({"succeeded", "failed", "cancelled"})
RETRYABLE_STATUSES = frozenset({429, 502, 503, 504})
MAX_RETRY_PAUSE_SECONDS = 10.0  # even if Retry-After asks for more
RESPONSE_TIMEOUT_SECONDS = 30.0
CONNECT_TIMEOUT_SECONDS = 5.0
NEVER_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError, httpx2.UnsupportedProtocol, UnicodeError)


@dataclass(frozen=True)
class Patience:
    """For how many seconds a call is retried before the service counts as unreachable."""

    first_reads: float = 0.5  # while the service has never responded to this client
    first_changes: float = 5.0  # likewise, and they cannot have reached it
    reads: float = 300.0  # once it has responded: long enough for a restart of its machine
    changes: float = 120.0  # likewise, or they may have been made: longer than the service waits for its database


PATIENCE = Patience()


class Service:
    """One service: its URL, the way to it, and whether it has ever responded."""

    def __init__(self, url: str | None, note: Callable[[str], None], patience: Patience | None) -> None:
        whole = url or os.environ.get("TUNEWELL_URL") or DEFAULT_URL
        parts = parse_http_url(whole)
        if parts is None:
            raise ValueError(f"expected a URL such as {DEFAULT_URL}, got {whole!r}")
        self.url = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"  # without credentials
        self.base_url = whole.rstrip("/")
        self.note, self.patience = note, patience or PATIENCE
        self.proxy = self._choose_proxy(parts)
        # Certificates are loaded for https only, so that unreadable ones do not break http.
        self.has_certificates = parts.scheme == "https"
        self.timeout = httpx2.Timeout(RESPONSE_TIMEOUT_SECONDS, connect=CONNECT_TIMEOUT_SECONDS)
        self._has_responded = False

    def explain_certificates(self, error: OSError) -> ServiceUnreachable:
        """The error for certificates that cannot be read."""
        reason = f"the certificates in SSL_CERT_FILE or SSL_CERT_DIR cannot be read ({_describe_error(error)})"
        return ServiceUnreachable(f"{self.url} cannot be reached: {reason}")

    def fetch(self, call: Call, retry_for: float | None = None) -> Flow[Document]:
        """The document that the service responds with."""
        response = yield from self.send(call, retry_for)
        return self.parse(response)

    def read_text(self, call: Call) -> Flow[str]:
        """The response's body as text."""
        response = yield from self.send(call)
        return response.text

    def send(self, call: Call, retry_for: float | None = None, opened: bool = False) -> Flow[httpx2.Response]:
        """The final response; an attempt without one is retried, at most for `retry_for` seconds if given.

        `opened`: its body is left to be read with `Next`.

        Raises:
            ServiceUnreachable: no attempt has had a final response.
            RequestRejected: the service rejected the request.
        """
        started, pause, noted, absent, sent = time.monotonic(), 0.25, "", True, False
        while True:
            outcome = yield from self._attempt(call, opened)
            if isinstance(outcome, httpx2.Response):
                return self._check(outcome, call, again=sent)
            absent, sent = absent and outcome.absent, sent or outcome.sent
            if time.monotonic() - started >= (self._retry_seconds(call, sent) if retry_for is None else retry_for):
                raise ServiceUnreachable(outcome.reason, absent=absent, maybe_done=sent and call.changes)
            if outcome.reason != noted:
                self.note(f"{outcome.reason}; retrying")
            noted = outcome.reason
            yield Sleep(outcome.wait or pause)
            pause = min(pause * 2, MAX_RETRY_PAUSE_SECONDS / 2)

    def parse(self, response: httpx2.Response) -> Document:
        """The JSON object in the body."""
        try:
            document = response.json()
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise ServiceUnreachable(f"{self.url} responds, but is not a Tunewell service")
        return document

    def _choose_proxy(self, parts: SplitResult) -> str | None:
        try:
            return choose_proxy(parts)
        except UnusableProxy as error:
            raise ServiceUnreachable(f"{self.url} cannot be reached: {error}") from None

    def _retry_seconds(self, call: Call, sent: bool) -> float:
        patience = self.patience
        if call.changes:
            return patience.changes if sent or self._has_responded else patience.first_changes
        return patience.reads if self._has_responded else patience.first_reads

    def _attempt(self, call: Call, opened: bool) -> Flow["httpx2.Response | _Failure"]:
        """The response, or why there is no final one."""
        try:
            response: httpx2.Response = yield Open(call) if opened else Send(call)
        except TRANSPORT_ERRORS as error:
            via = ", via the proxy in the environment" if self.proxy else ""
            reason = f"{self.url} does not respond ({_describe_error(error)}{via})"
            sent = not isinstance(error, NEVER_SENT)
            return _Failure(reason, 0.0, sent, absent=not (sent or self.proxy or _is_tls_error(error)))
        if response.status_code not in RETRYABLE_STATUSES:
            self._has_responded = True
            return response
        wait = read_retry_after(response, 0.0)
        return _Failure(f"{self.url} is unavailable ({_describe_status(response)})", wait, sent=True, absent=False)

    def _check(self, response: httpx2.Response, call: Call, again: bool) -> httpx2.Response:
        status = response.status_code
        if status == 304 or response.is_success:
            return response
        if again and call.method == "DELETE" and status == 404:  # an earlier attempt deleted it
            return response
        # 501: an extra is not installed; 507: no space for a data set.
        if (response.is_client_error or status in {501, 507}) and "json" in response.headers.get("Content-Type", ""):
            raise make_rejection({"status": status, **self.parse(response)}, str(call), self.url)
        maybe_done = response.is_server_error and call.changes
        raise ServiceUnreachable(f"{self.url} responded {_describe_status(response)}", maybe_done=maybe_done)


class _Failure(NamedTuple):
    """Why an attempt has no final response, and when to try again."""

    reason: str
    wait: float  # seconds that the service asks for; 0 if it does not
    sent: bool  # the request may have reached the service
    absent: bool  # neither the service nor a proxy responded


def read_retry_after(response: httpx2.Response, default: float) -> float:
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
