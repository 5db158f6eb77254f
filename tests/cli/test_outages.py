"""The command line while the service is busy or unreachable: no job is posted twice, and users learn what happened."""

import json
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.cli.test_commands import run
from tests.support.live import live
from tests.support.service_double import BEST, JOB, JOB_ID, Answer, Service, answer, closed_port, job
from tunewell import Patience
from tunewell import service as service_module

AWAY = answer({"title": "Database away", "status": 503}, 503)
LOST = Answer(0)
CUT = Answer(202, job("queued"), {"Content-Length": "99999"})
BROKEN = Answer(500, {"title": "Internal Server Error", "status": 500})


def keys(service: Service) -> list[str]:
    return [asked.headers["Idempotency-Key"] for asked in service.asked]


@pytest.mark.parametrize("trouble", [AWAY, LOST, CUT])
def test_a_post_that_may_have_arrived_is_retried_for_longer(
    service: Service,
    spec_file: str,
    monkeypatch: pytest.MonkeyPatch,
    trouble: Answer,
) -> None:
    monkeypatch.setattr(service_module, "PATIENCE", Patience(first_changes=0.0))
    service.on("POST /v1/jobs", trouble, trouble, answer(job("queued"), 202))
    assert run(service.url, "submit", spec_file).exit_code == 0
    assert len(keys(service)) == 3
    assert len(set(keys(service))) == 1


@pytest.mark.parametrize("trouble", [AWAY, LOST, CUT, BROKEN])
def test_an_unresolved_post_is_reported_with_its_key(
    service: Service,
    spec_file: str,
    monkeypatch: pytest.MonkeyPatch,
    trouble: Answer,
) -> None:
    monkeypatch.setattr(service_module, "PATIENCE", Patience(changes=0.2))
    service.on("POST /v1/jobs", trouble)
    result = run(service.url, "submit", spec_file, "--json")
    assert result.exit_code == 3
    again = f"tunewell submit {spec_file} --key {keys(service)[0]}"
    assert "may have been accepted" in result.stderr
    assert again in result.stderr
    assert again in json.loads(result.stdout)["detail"]
    assert "tunewell up" not in result.stderr


def test_a_given_key_is_sent_unchanged(service: Service, spec_file: str) -> None:
    service.on("POST /v1/jobs", answer(job("queued"), 202))
    assert run(service.url, "submit", spec_file, "--key", "mine-1").exit_code == 0
    assert keys(service) == ["mine-1"]
    for key in ("", "two words", "é", "k" * 256):
        assert run(service.url, "submit", spec_file, "--key", key).exit_code == 2
    assert len(service.asked) == 1


def test_a_post_that_could_not_connect_was_not_accepted(
    spec_file: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(service_module, "PATIENCE", Patience(first_changes=0.1))
    result = run(f"http://127.0.0.1:{closed_port()}", "submit", spec_file)
    assert result.exit_code == 3
    assert "accepted" not in result.stderr
    assert "tunewell up" in result.stderr


def test_a_submit_during_a_long_lock_makes_one_job(tmp_path: Path, spec_file: str) -> None:
    """The lock outlasts several attempts; each is repeated with the same key."""
    file = tmp_path / "locked.db"
    impatient = (
        "from app.cli import commands; from tunewell import service; service.RESPONSE_TIMEOUT_SECONDS = 1.0; "
        "service.PATIENCE = service.Patience(first_changes=0.0); commands.cli()"
    )
    with live(tmp_path / "home", f"sqlite:///{file}", f"redis://127.0.0.1:{closed_port()}/0", workers=0) as here:
        command = [sys.executable, "-c", impatient, "submit", spec_file, "--json", "--url", str(here.client.base_url)]
        with closing(sqlite3.connect(file, isolation_level=None)) as holder:
            holder.execute("BEGIN IMMEDIATE")
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
                assert process.stderr is not None
                assert "does not respond" in process.stderr.readline()
                time.sleep(3)
                holder.execute("ROLLBACK")
                printed, errors = process.communicate(timeout=100)
        assert process.returncode == 0, errors
        assert [one["id"] for one in here.get("/v1/jobs")["items"]] == [json.loads(printed)["id"]]


def test_ctrl_c_during_a_post_shows_the_key(service: Service, spec_file: str) -> None:
    service.on("POST /v1/jobs", AWAY)
    command = [sys.executable, "-m", "app.cli", "submit", spec_file, "--url", service.url]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while len(service.asked) < 2:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert f"--key {keys(service)[0]}" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize("trouble", [AWAY, LOST])
def test_an_unresolved_change_is_reported(
    service: Service,
    monkeypatch: pytest.MonkeyPatch,
    trouble: Answer,
) -> None:
    monkeypatch.setattr(service_module, "PATIENCE", Patience(changes=0.2))
    service.on(f"POST {JOB}/cancel", trouble)
    service.on(f"DELETE {JOB}", trouble)
    for command in ("cancel", "delete"):
        result = run(service.url, command, JOB_ID)
        assert result.exit_code == 3
        assert "may have been made" in result.stderr
        assert "tunewell up" not in result.stderr


def test_a_delete_whose_first_response_was_lost_succeeds(service: Service) -> None:
    gone = Answer(404, {"title": "Not Found", "status": 404, "detail": "There is no such job."})
    service.on(f"DELETE {JOB}", LOST, gone)
    assert run(service.url, "delete", JOB_ID).exit_code == 0
    service.on(f"DELETE {JOB}", gone)
    assert run(service.url, "delete", JOB_ID).exit_code == 2


@pytest.mark.parametrize("trouble", [AWAY, LOST])
def test_reads_after_a_watch_are_retried_as_long_as_the_watch(
    service: Service,
    spec_file: str,
    monkeypatch: pytest.MonkeyPatch,
    trouble: Answer,
) -> None:
    monkeypatch.setattr(service_module, "PATIENCE", Patience(first_reads=0.0))
    service.on("POST /v1/jobs", answer(job("queued"), 202))
    service.on(f"GET {JOB}", answer(job("succeeded", 5)))
    service.on(f"GET {JOB}/best", trouble, trouble, trouble, answer(BEST))
    result = run(service.url, "submit", spec_file, "--wait", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == BEST
    assert "retrying" in result.stderr


def test_a_watch_that_gives_up_says_how_to_resume(
    service: Service,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(service_module, "PATIENCE", Patience(reads=0.2))
    service.on(f"GET {JOB}", answer(job()), AWAY)
    result = run(service.url, "watch", JOB_ID)
    assert result.exit_code == 3
    assert f"tunewell watch {JOB_ID}" in result.stderr
    assert "tunewell up" not in result.stderr
