"""Chooses the proxy for a URL from the environment, and parses HTTP URLs."""

import ipaddress
from contextlib import suppress
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies

import httpx2


class UnusableProxy(Exception):
    """The proxy in the environment is malformed or of an unsupported kind."""


def choose_proxy(url: SplitResult) -> str | None:
    """The URL of the proxy; none for this machine and for hosts that NO_PROXY exempts.

    Raises:
        UnusableProxy: the message leaves out the user and password in the proxy's URL.
    """
    proxies = getproxies()
    if _is_loopback(url.hostname or "") or _is_exempt(url, proxies.get("no", "")):
        return None
    chosen = (proxies.get(url.scheme) or proxies.get("all") or "").strip()
    if not chosen:
        return None
    proxy = chosen if "://" in chosen else f"http://{chosen}"
    if not parse_http_url(proxy):
        scheme = proxy.partition("://")[0]
        raise UnusableProxy(
            f"the proxy in the environment is not a URL such as http://host:port (its scheme is {scheme!r}): correct "
            f"or unset {url.scheme.upper()}_PROXY or ALL_PROXY, or add {url.hostname} to NO_PROXY"
        )
    return proxy


def parse_http_url(text: str) -> SplitResult | None:
    """The parts of an HTTP URL with a host; none if the text is not one."""
    with suppress(ValueError, httpx2.InvalidURL):
        parts, _ = urlsplit(text), httpx2.URL(text)
        if parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0:
            return parts
    return None


def _is_loopback(host: str) -> bool:
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def _is_exempt(url: SplitResult, no_proxy: str) -> bool:
    """Whether an entry of NO_PROXY covers the host: `*`, a domain (with subdomains), host and port, or a network."""
    host = url.hostname or ""
    for entry in (one.strip().lower() for one in no_proxy.split(",")):
        if entry == "*":
            return True
        with suppress(ValueError):
            if ipaddress.ip_address(host) in ipaddress.ip_network(entry.strip("[]"), strict=False):
                return True
        name = entry.removeprefix("*").removeprefix(".")
        if name and any(f".{known}".endswith(f".{name}") for known in (host, f"{host}:{url.port}")):
            return True
    return False
