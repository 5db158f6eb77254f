"""The service accepts its own hosts, and no changes from pages of other sites."""

import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from pydantic import ValidationError
from sqlalchemy import Engine

from app.main import create_app
from app.tuning.settings import Settings, settings
from tests.conftest import IdleHousekeeper
from tests.support.driving import grid
from tests.support.live import live
from tests.support.rejecting import problem

Serve = Callable[..., TestClient]


@pytest.fixture
def serve(sqlite_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """A service started with `--host`, called at an address of this machine."""
    clients: list[TestClient] = []

    def start(host: str | None = "127.0.0.1", at: str = "127.0.0.1", allowed: str = "") -> TestClient:
        monkeypatch.setattr("sys.argv", ["uvicorn", "app.main:app", *(["--host", host] if host is not None else [])])
        monkeypatch.setenv("TUNEWELL_ALLOWED_HOSTS", allowed)
        settings.cache_clear()
        clients.append(TestClient(create_app(sqlite_engine, IdleHousekeeper), base_url=f"http://{at}:8000"))
        return clients[-1].__enter__()

    yield start
    for client in clients:
        client.__exit__()
    monkeypatch.undo()
    settings.cache_clear()


LOOPBACK = [
    "127.0.0.1",
    "127.0.0.1:8000",
    "localhost:1",
    "LOCALHOST",
    "localhost.",
    "a.localhost:8",
    "127.9.9.9",
    "[::1]:8",
]
FOREIGN = [
    "evil.example",
    "evil.example:8000",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "evillocalhost",
    "127.0.0.1:8000@evil.example",
    "evil.example:80@127.0.0.1",
    "",
    "*",
    "a" * 5000,
    "ev\u00fcl.example".encode().decode("latin-1"),
]
ADDRESSES = ["10.1.2.3", "192.168.1.20:8000", "[fe80::1]:8000", "[2001:db8::7]"]


def statuses(client: TestClient, hosts: list[str], path: str = "/v1/jobs") -> set[int]:
    return {client.get(path, headers={b"Host": host.encode("latin-1")}).status_code for host in hosts}


@pytest.mark.parametrize("path", ["/v1/jobs", "/docs", "/openapi.json", "/livez", "/readyz", "/static-offline-docs/"])
def test_foreign_hosts_get_421_on_every_path(serve: Serve, path: str) -> None:
    client = serve()
    assert statuses(client, [*FOREIGN, *ADDRESSES], path) == {421}
    document = problem(client.get(path, headers={"Host": "evil.example"}), 421)
    assert "TUNEWELL_ALLOWED_HOSTS" in document["detail"] and "evil" not in str(document)
    assert client.head(path, headers={"Host": "evil.example"}).status_code == 421
    assert client.post("/v1/jobs", json=grid(1), headers={"Host": "evil.example"}).status_code == 421


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", "::", "192.168.1.20", "tunewell.lan", None, ""])
def test_loopback_names_are_accepted_with_any_port(serve: Serve, host: str | None) -> None:
    client = serve(host)
    assert statuses(client, LOOPBACK) == {200}
    assert statuses(client, FOREIGN) == {421}


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "0", ""])
def test_a_service_on_all_addresses_accepts_any_address_and_its_hostname(serve: Serve, host: str) -> None:
    client = serve(host)
    assert statuses(client, [*ADDRESSES, f"{socket.gethostname()}:8000"]) == {200}


def test_the_configured_host_is_accepted(serve: Serve) -> None:
    assert statuses(serve("tunewell.lan"), ["tunewell.lan", "TUNEWELL.lan:8000"]) == {200}
    assert statuses(serve("192.168.1.20"), ["192.168.1.20:8000"]) == {200}
    assert statuses(serve("192.168.1.20"), ["192.168.1.21"]) == {421}


def test_without_a_configured_host_the_destination_address_decides(serve: Serve) -> None:
    assert statuses(serve(None), ADDRESSES) == {421}
    assert statuses(serve(None, at="172.17.0.2"), ADDRESSES) == {200}


def test_allowed_hosts_are_accepted(serve: Serve) -> None:
    client = serve(allowed=" tunewell.example:443, *.lan,10.0.0.5,[2001:db8::7]")
    assert statuses(client, ["tunewell.example", "a.lan", "a.b.lan:80", "10.0.0.5:8000", "[2001:db8::7]:1"]) == {200}
    assert statuses(client, ["a.tunewell.example", "lan", "alan", "10.0.0.6", "evil.example"]) == {421}
    assert statuses(serve(allowed="*"), [*FOREIGN, *ADDRESSES]) == {200}


@pytest.mark.parametrize("allowed", ["http://tunewell.lan", "a b", "a/b", "*lan", "a;b", "a,*x"])
def test_invalid_allowed_hosts_are_rejected(allowed: str) -> None:
    with pytest.raises(ValidationError, match="allowed_hosts"):
        Settings(allowed_hosts=allowed)


def changed(client: TestClient, host: str = "localhost:8000", **headers: str) -> set[int]:
    """The statuses of all calls that change something."""
    sent = {"Host": host, **{name.replace("_", "-"): value for name, value in headers.items()}}
    made = client.post("/v1/jobs", json=grid(1), headers=sent).status_code
    location = client.post("/v1/jobs", json=grid(1)).headers["Location"]
    cancelled = client.post(f"{location}/cancel", headers=sent).status_code
    client.post(f"{location}/cancel")
    return {made, cancelled, client.delete(location, headers=sent).status_code}


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "http://localhost:8001",
        "http://localhost",
        "http://127.0.0.1:8000",
        "https://localhost.evil.example:8000",
        "null",
        "",
        "file://",
        "chrome-extension://abc",
    ],
)
def test_changes_from_other_origins_are_forbidden(serve: Serve, origin: str) -> None:
    client = serve()
    assert changed(client, Origin=origin) == {403}
    problem(client.post("/v1/jobs", json=grid(1), headers={"Host": "localhost:8000", "Origin": origin}), 403)
    assert client.get("/v1/jobs", headers={"Host": "localhost:8000", "Origin": origin}).status_code == 200


def test_cross_site_changes_are_forbidden(serve: Serve) -> None:
    client = serve()
    assert changed(client, Sec_Fetch_Site="cross-site") == {403}
    assert changed(client, Sec_Fetch_Site="same-origin", Origin="http://localhost:8000") == {202, 204}
    assert client.get("/v1/jobs", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200


def test_changes_from_own_pages_and_programs_are_accepted(serve: Serve) -> None:
    client = serve(allowed="tunewell.example")
    assert changed(client) == {202, 204}
    assert changed(client, Origin="http://LOCALHOST:8000") == {202, 204}
    assert changed(client, "[::1]:8000", Origin="http://[::1]:8000") == {202, 204}
    assert changed(client, "tunewell.example", Origin="https://tunewell.example") == {202, 204}
    assert changed(client, "tunewell.example:443", Origin="https://tunewell.example") == {202, 204}


def test_a_proxy_may_use_another_host_name_than_browsers(serve: Serve) -> None:
    client = serve(allowed="tunewell.example")
    assert changed(client, "127.0.0.1:8000", Origin="https://tunewell.example:8443") == {202, 204}
    assert changed(client, "127.0.0.1:8000", Origin="https://evil.example") == {403}
    assert changed(client, "tunewell.example:8000", Origin="https://tunewell.example:8443") == {403}
    assert changed(serve(allowed="*"), Origin="https://evil.example") == {403}


@pytest.mark.slow
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_real_service_finds_out_where_it_listens(
    host: str, tmp_path: Path, migrated_sqlite: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TUNEWELL_ALLOWED_HOSTS")
    file = shutil.copy(migrated_sqlite, tmp_path)
    with live(tmp_path, f"sqlite:///{file}", "redis://127.0.0.1:1/0", workers=0, host=host) as service:
        expected = {"localhost:1": 200, "10.1.2.3": 200 if host == "0.0.0.0" else 421, "evil.example": 421}
        found = {name: service.client.get("/livez", headers={"Host": name}).status_code for name in expected}
    assert found == expected
