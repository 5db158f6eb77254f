"""Rejects foreign hosts, as protection against DNS rebinding, and changes requested by pages of other sites."""

import os
import socket
import sys
from ipaddress import IPv4Address, IPv6Address, ip_address

from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.problems import Problem, problem_response
from app.tuning.settings import settings

EVERYWHERE = "0.0.0.0"
READS = ("GET", "HEAD", "OPTIONS", "TRACE")
DEFAULT_PORTS = {"http": ":80", "https": ":443"}
MISDIRECTED = Problem(
    421,
    "The Host header does not name this service: use an address that it listens on, or add the host to "
    "TUNEWELL_ALLOWED_HOSTS.",
)
CROSS_SITE = Problem(
    403, "Cross-site changes are rejected: send the request from the service's own pages or from a program."
)


class HostGuard:
    """Rejects requests for foreign hosts with 421, and changes requested by foreign pages with 403."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (problem := _problem(scope)):
            return await problem_response(problem)(scope, receive, send)
        await self._app(scope, receive, send)


def _problem(scope: Scope) -> Problem | None:
    hosts = _values(scope, b"host")  # empty only in HTTP/1.0, which no browser uses
    listening = _listening(scope)
    if not all(_is_own(host_name(host), listening) for host in hosts):
        return MISDIRECTED
    return CROSS_SITE if scope["method"] not in READS and _is_foreign(scope, hosts) else None


def _is_own(host: str, listening: list[str]) -> bool:
    if _is_named(host, any_host=True) or host in (*listening, "localhost") or host.endswith(".localhost"):
        return True
    address, own = _address(host), [_address(place) for place in listening]
    everywhere = any(place is not None and place.is_unspecified for place in own)
    if address is None:
        return everywhere and host == socket.gethostname().lower()
    # DNS rebinding needs a name: a literal address is safe.
    return address.is_loopback or everywhere or address in own


def _listening(scope: Scope) -> list[str]:
    """Where this process listens: the host that uvicorn was started with, and the request's destination address."""
    arrived_at = str((scope.get("server") or ("",))[0])
    address = _address(arrived_at)
    host = _configured_host()
    if host is None:
        host = "127.0.0.1" if address is None or address.is_loopback else EVERYWHERE
    return [EVERYWHERE if host in ("", "0") else host.lower(), *([arrived_at] if address else [])]


def _configured_host() -> str | None:
    """The host that uvicorn's command line or environment names."""
    for argument, following in zip(sys.argv, [*sys.argv[1:], ""], strict=True):
        if argument == "--host":
            return following
        if argument.startswith("--host="):
            return argument.removeprefix("--host=")
    return os.environ.get("UVICORN_HOST")


def host_name(host: str) -> str:
    """The name or address in a Host header or an origin, without its port."""
    before, _, port = host.strip().lower().rpartition(":")
    alone = before if before and not before.endswith(":") and (port.isdigit() or not port) else host.strip().lower()
    return alone.removesuffix(".").removeprefix("[").removesuffix("]")


def _is_foreign(scope: Scope, hosts: list[str]) -> bool:
    if "cross-site" in _values(scope, b"sec-fetch-site"):
        return True
    for origin in _values(scope, b"origin"):
        scheme, _, place = origin.lower().partition("://")
        port = DEFAULT_PORTS.get(scheme, "")
        same = place.removesuffix(port) in [host.lower().removesuffix(port) for host in hosts]
        # Behind a proxy the service may have another name than in the browser.
        proxied = host_name(place) not in map(host_name, hosts) and _is_named(host_name(place))
        if not place or not (same or proxied):
            return True
    return False


def _is_named(host: str, any_host: bool = False) -> bool:
    """Whether the settings name this host."""
    named = [host_name(one) for one in settings().allowed_hosts.split(",") if one]
    if any_host and "*" in named:
        return True
    return any(host == one or (one.startswith("*.") and host.endswith(one[1:])) for one in named)


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(host)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _values(scope: Scope, header: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key == header]
