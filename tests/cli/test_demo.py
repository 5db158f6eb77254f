"""`tunewell demo` on a service that already runs in its home."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.local import launcher
from tests.support.service_double import BEST, JOB, JOB_ID, Service, answer, job, trial


@pytest.fixture
def home(service: Service, tmp_path: Path) -> Iterator[Path]:
    """A home where the service double runs."""
    empty = answer({"items": [], "next_page_token": None})
    service.on("GET /v1/jobs?state=queued&page_size=100", empty)
    service.on("GET /v1/jobs?state=running&page_size=100", empty)
    service.on("POST /v1/jobs", answer(job("queued"), 202))
    service.on(f"GET {JOB}", answer(job()), answer(job("succeeded", 5)))
    service.on(
        f"GET {JOB}/trials?sort=-validation_score&page_size=5",
        answer({"items": [trial(0)], "next_page_token": None}),
    )
    service.on(f"GET {JOB}/best", answer(BEST))
    with launcher.hold_home_lock(tmp_path) as held:
        launcher.write_running(held, service.url)
        yield tmp_path


def run_demo(home: Path, stdout: int) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "app.cli", "demo"],
        env={**os.environ, "TUNEWELL_HOME": str(home)},
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=100,
        check=False,
    )


def test_the_demo_prints_the_best_last(home: Path, service: Service) -> None:
    result = run_demo(home, subprocess.PIPE)
    assert result.returncode == 0
    lines = result.stdout.splitlines()
    assert lines[0].startswith(f"Tunewell already runs at {service.url}")
    assert lines[1].startswith("Grid search:")
    assert lines[2] == f"Watch it in a browser: {service.url}/jobs/{JOB_ID}"
    assert any(line.startswith("The race saved 0 of 5 fits for the same winner") for line in lines)
    assert any(line.startswith("Trial 1 was chosen; 1 other cannot be told from it (0); corrected") for line in lines)
    assert lines[-1].startswith("Test accuracy 0.9100")


def test_the_demo_runs_to_its_end_when_nobody_reads_its_output(home: Path, service: Service) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    result = run_demo(home, writer)
    os.close(writer)
    assert result.returncode == 141
    assert service.asked[-1].path == f"{JOB}/best"
    assert "Traceback" not in result.stderr
