"""With TUNEWELL_LOG_FORMAT=json, every line of every log is JSON."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.local.test_launcher import wait_until
from tests.support.live import Live, live
from tests.support.servers import Broker
from tests.system.test_up import started

SPEC = {
    "dataset": {"name": "digits", "train_samples": 200},
    "search": {"strategy": "grid", "param_grid": {"num_neurons": [8]}},
    "fixed": {"epochs": 1},
    "evaluation": {"cv": 2},
}


def records(log: Path) -> list[dict[str, object]]:
    lines = log.read_text().splitlines()
    assert lines
    return [json.loads(line) for line in lines]


def test_every_line_of_api_and_worker_is_json(tmp_path: Path, broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEWELL_LOG_FORMAT", "json")
    with live(tmp_path, f"sqlite:///{tmp_path / 'tunewell.db'}", broker.url, workers=1) as service:
        assert train(service) == "succeeded"
        broker.kill()  # both processes log the outage
        try:
            wait_until(lambda: "Connection refused" in service.said("w1"), 60)
        finally:
            broker.start()
    api, worker = records(tmp_path / "api.log"), records(tmp_path / "w1.log")
    assert all({"time", "level", "logger", "message"} <= record.keys() for record in api + worker)
    assert any("Uvicorn running" in str(record["message"]) for record in api)
    assert {"worker starts", "fit ended"} <= {record["message"] for record in worker}


def train(service: Live) -> object:
    return service.wait(service.post(SPEC))["state"]


def test_every_line_of_the_parts_of_up_is_json(tmp_path: Path) -> None:
    with started(tmp_path, 1, TUNEWELL_LOG_FORMAT="json") as up:
        assert up.stdout is not None
        assert up.stdout.readline()
        wait_until(lambda: "ready." in (tmp_path / "here" / "logs" / "worker-1.log").read_text(), 60)
    for name in ("api", "worker-1"):
        assert records(tmp_path / "here" / "logs" / f"{name}.log")


def test_warnings_and_crashes_are_records_too() -> None:
    code = """
import threading, warnings
from app.tuning import logs
logs.set_up_logging()
warnings.warn("some\\nwarning")
thread = threading.Thread(target=lambda: 1 / 0)
thread.start()
thread.join()
{}["key"]
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"TUNEWELL_LOG_FORMAT": "json"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    found = [json.loads(line) for line in done.stderr.splitlines()]
    assert [record["level"] for record in found] == ["WARNING", "CRITICAL", "CRITICAL"]
    assert "KeyError" in found[2]["exception"]
