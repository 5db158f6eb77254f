"""Starting with an unusable database, an unreachable broker, full disks or missing folders."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx2
import psutil
import pytest
from sqlalchemy import make_url, text

from app.tuning.database import connect
from tests.local.test_launcher import is_gone, wait_until
from tests.support.live import PROJECT
from tests.support.servers import Broker, Postgres, free_port
from tests.system.test_up import is_ready, started, url_of

SPEC = {"dataset": {"name": "digits"}, "search": {"strategy": "grid", "param_grid": {"num_neurons": [8]}}}


@pytest.fixture(params=["role without CREATE", "wrong password", "no such database"])
def unusable(request: pytest.FixtureRequest, postgres: Postgres) -> tuple[str, str]:
    """The URL of an unusable database, and the reason."""
    url = make_url(postgres.new_database())
    user = f"u{url.database}"
    postgres.execute(f"CREATE ROLE {user} LOGIN PASSWORD 'right'")
    if request.param == "role without CREATE":
        return url.set(username=user).render_as_string(False), "permission denied for schema public"
    if request.param == "wrong password":
        postgres.demand_password(user)
        wrong = url.set(username=user, password="secret").render_as_string(False)
        return wrong, f'password authentication failed for user "{user}"'
    return url.set(username=user, database="nowhere").render_as_string(False), 'database "nowhere" does not exist'


def test_up_says_why_the_database_cannot_be_used_and_serves_503s(tmp_path: Path, unusable: tuple[str, str]) -> None:
    url, reason = unusable
    said, port = tmp_path / "said", free_port()
    with said.open("w") as stderr, started(tmp_path, 0, port=port, stderr=stderr, TUNEWELL_DATABASE_URL=url):
        wait_until(lambda: reason in said.read_text(), 60)
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            wait_until(lambda: is_alive(client), 60)
            assert client.get("/readyz").status_code == 503
            assert client.get("/v1/jobs").status_code == 503
            posted = client.post("/v1/jobs", json=SPEC)
            assert (posted.status_code, "Retry-After" in posted.headers) == (503, True)
        log = (tmp_path / "here" / "logs" / "api.log").read_text()
    assert reason in log
    assert "secret" not in said.read_text() + log


def is_alive(client: httpx2.Client) -> bool:
    try:
        return client.get("/livez").status_code == 200
    except httpx2.TransportError:
        return False


def test_a_worker_says_why_the_database_cannot_be_used(
    tmp_path: Path, unusable: tuple[str, str], broker: Broker
) -> None:
    url, reason = unusable
    variables = {"TUNEWELL_DATABASE_URL": url, "TUNEWELL_BROKER_URL": broker.url, "TUNEWELL_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "celery", "-A", "worker.tasks", "worker", "--concurrency", "1"]
    with (tmp_path / "log").open("w") as log:
        worker = subprocess.Popen(command, cwd=PROJECT, env=os.environ | variables, stdout=log, stderr=log)
    try:
        wait_until(lambda: reason in (tmp_path / "log").read_text(), 60)
    finally:
        worker.terminate()
        worker.wait(60)
    assert "secret" not in (tmp_path / "log").read_text()


@pytest.mark.parametrize("damage", ["another program's", "a newer Tunewell's"])
def test_up_rejects_the_database_of_another_program_or_version_in_one_sentence(tmp_path: Path, damage: str) -> None:
    url = f"sqlite:///{tmp_path}/some.db"
    engine = connect(url)
    with engine.execution_options(writes=True).begin() as connection:
        name = "trials" if damage == "another program's" else "tunewell_version"
        connection.execute(text(f"CREATE TABLE {name} (version_num VARCHAR(32))"))
        connection.execute(text(f"INSERT INTO {name} VALUES ('9999')"))
    engine.dispose()
    with started(tmp_path, 0, TUNEWELL_DATABASE_URL=url) as up:
        out, errors = up.communicate(timeout=100)
    assert (up.returncode, out) == (1, "")
    assert damage in errors
    assert "Traceback" not in errors
    assert len(errors.splitlines()) <= 2
    assert [file.name for file in (tmp_path / "here" / "logs").iterdir()] == ["migration.log"]


def test_up_says_that_the_broker_cannot_be_reached(tmp_path: Path) -> None:
    port = free_port()
    with started(tmp_path, 0, TUNEWELL_BROKER_URL=f"redis://:secret@127.0.0.1:{port}/0") as up:
        url_of(up)
        up.terminate()
        _, errors = up.communicate(timeout=60)
    assert f"the broker at 127.0.0.1:{port} cannot be reached" in errors
    assert "secret" not in errors


def test_unwritable_notes_change_nothing(tmp_path: Path) -> None:
    port = free_port()
    with Path("/dev/full").open("w") as full, started(tmp_path, 0, port=port, stderr=full) as up:
        url = url_of(up)
        kill_api(up)
        wait_until(lambda: is_ready(url), 60)
        up.send_signal(signal.SIGTERM)
        assert up.wait(60) == 0


def test_closed_pipes_do_not_change_how_it_stops(tmp_path: Path) -> None:
    with started(tmp_path, 0, stderr=subprocess.STDOUT) as up:
        url = url_of(up)
        assert up.stdout is not None
        up.stdout.close()
        children = psutil.Process(up.pid).children(recursive=True)
        kill_api(up)
        wait_until(lambda: is_ready(url), 60)
        children += psutil.Process(up.pid).children(recursive=True)
        up.send_signal(signal.SIGTERM)
        assert up.wait(60) == 0
        assert all(is_gone(child.pid) for child in children)
        log = (tmp_path / "here" / "logs" / "broker.log").read_text()
        assert "ready to exit, bye bye" in log, "the broker was asked to end, after the API"


def kill_api(up: "subprocess.Popen[str]") -> None:
    """Kill the API and wait until it is gone."""
    children = psutil.Process(up.pid).children(recursive=True)
    api = next(process for process in children if "uvicorn" in process.cmdline())
    api.kill()
    wait_until(lambda: is_gone(api.pid))


def test_deleted_folders_are_created_again(tmp_path: Path) -> None:
    with started(tmp_path, 0) as up:
        url = url_of(up)
        subprocess.run(["rm", "-r", tmp_path / "here" / "logs"], check=True)
        kill_api(up)
        wait_until(lambda: is_ready(url), 60)
    assert (tmp_path / "here" / "logs" / "api.log").exists()


@pytest.mark.parametrize("command", [["uvicorn", "app.main:app"], ["celery", "-A", "worker.tasks", "worker"]])
def test_a_process_that_cannot_write_its_log_keeps_working(tmp_path: Path, command: list[str], broker: Broker) -> None:
    variables = {"TUNEWELL_BROKER_URL": broker.url, "TUNEWELL_HOME": str(tmp_path), "TUNEWELL_DATABASE_URL": ""}
    port = free_port()
    more = ["--port", str(port)] if command[0] == "uvicorn" else ["--concurrency", "1"]
    with Path("/dev/full").open("w") as full:
        part = subprocess.Popen(
            [sys.executable, "-m", *command, *more], cwd=PROJECT, env=os.environ | variables, stdout=full, stderr=full
        )
    try:
        if command[0] == "uvicorn":
            wait_until(lambda: is_ready(f"http://127.0.0.1:{port}"), 60)
        else:  # its main process prepares the database once it is ready
            wait_until(lambda: (tmp_path / "tunewell.db").exists(), 60)
        assert part.poll() is None
    finally:
        part.terminate()
        part.wait(60)
