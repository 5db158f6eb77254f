"""Uploads to a real server: bodies that end early or are not wanted, and a process that is killed."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx2
import pytest

from app.tuning import spool, storage
from app.tuning.database import connect
from app.tuning.housekeeping import remove_leftovers
from app.tuning.settings import settings
from tests.support.live import PROJECT, Live, live
from tests.support.servers import Broker, free_port
from tests.support.uploads import make_npz


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, broker: Broker) -> Iterator[Live]:
    """An API process on SQLite."""
    home = tmp_path_factory.mktemp("uploads")
    with live(home, f"sqlite:///{home / 'tunewell.db'}", broker.url, workers=0) as made:
        yield made


def leftovers(service: Live) -> list[Path]:
    return list((service._home / "uploads").glob("*"))


@pytest.mark.parametrize("chunked", [False, True])
def test_nothing_is_left_of_a_body_that_ends_early(chunked: bool, service: Live) -> None:
    port = service.client.base_url.port
    assert port
    body = make_npz()[:2000]
    length = "Transfer-Encoding: chunked" if chunked else "Content-Length: 100000"
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(f"PUT /v1/datasets/cut HTTP/1.1\r\nHost: 127.0.0.1\r\n{length}\r\n\r\n".encode())
        connection.sendall(b"%x\r\n%s\r\n" % (len(body), body) if chunked else body)
        service.until(lambda: bool(leftovers(service)), 30)
    service.until(lambda: not leftovers(service), 30)
    assert service.client.get("/v1/datasets/cut").status_code == 404


def test_a_file_that_nobody_wants_is_not_sent_by_a_client_that_asks(service: Live) -> None:
    port = service.client.base_url.port
    assert port
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        headers = ("Host: 127.0.0.1", "Content-Length: 100000", "Expect: 100-continue")
        connection.sendall("\r\n".join(("PUT /v1/datasets/mnist HTTP/1.1", *headers, "", "")).encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 409 ")


def test_nothing_is_left_of_an_upload_whose_process_is_killed_before_the_row(
    tmp_path: Path, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, port = f"sqlite:///{tmp_path / 'tunewell.db'}", free_port()
    monkeypatch.setenv("TUNEWELL_HOME", str(tmp_path))
    settings.cache_clear()
    environment = {**os.environ, "TUNEWELL_DATABASE_URL": url, "TUNEWELL_BROKER_URL": broker.url}
    line = [sys.executable, "-m", "uvicorn", "tests.support.dying:app", "--port", str(port)]
    with subprocess.Popen(line, cwd=PROJECT, env=environment, stderr=subprocess.DEVNULL) as process:
        address = f"http://127.0.0.1:{port}"
        wait_until_ready(address, process)
        with pytest.raises(httpx2.TransportError):
            httpx2.put(f"{address}/v1/datasets/flowers", content=make_npz(), timeout=60)
        assert process.wait(30) == 9
    assert len(storage.list_files("datasets")) == 5 and len(list((tmp_path / "uploads").iterdir())) == 1
    monkeypatch.setattr(spool, "YOUNG_SECONDS", -1.0)
    monkeypatch.setattr("app.tuning.housekeeping.LEFTOVER_AGE", timedelta(seconds=-1))
    engine = connect(url)
    remove_leftovers(engine)
    engine.dispose()
    assert storage.list_folders("datasets") == {} and list((tmp_path / "uploads").iterdir()) == []


def wait_until_ready(address: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None
        try:
            if httpx2.get(f"{address}/readyz").status_code == 200:
                return
        except httpx2.TransportError:
            pass
        time.sleep(0.1)
    pytest.fail("the API does not become ready")
