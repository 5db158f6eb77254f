"""`tunewell up` as a user starts it: from another folder, with broker and API."""

import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from app.local import launcher
from tests.local.test_launcher import is_gone, wait_until
from tests.test_settings import NASTY
from tunewell import Client

URL = re.compile(
    r"Tunewell is ready at (http://127\.0\.0\.1:\d+) \(open it in a browser; \d workers?; Ctrl-C stops\)\n"
)
# Variables that a shell may have set for other programs.
SHELL = {
    "APP": "elsewhere",
    "BROKER_URL": "redis://127.0.0.1:1/0",
    "CELERY_BROKER_URL": "redis://127.0.0.1:1/0",
    "CELERY_CONFIG_MODULE": "elsewhere",
    "CELERY_WORKER_POOL": "solo",
    "DJANGO_SETTINGS_MODULE": "elsewhere",
    "FORKED_BY_MULTIPROCESSING": "1",
    "KERAS_BACKEND": "jax",
    "PYTHONWARNINGS": "error",
    "TF_USE_LEGACY_KERAS": "1",
    "UVICORN_RELOAD": "1",
    "UVICORN_ROOT_PATH": "/elsewhere",
    "WEB_CONCURRENCY": "3",
    **{f"TUNEWELL_{name}": "" for name in ("BROKER_URL", "DATABASE_URL", "DATA_DIR", "LOG_FORMAT")},
}


@contextmanager
def started(
    folder: Path, workers: int, home: str = "here", port: int = 0, stderr: Any = subprocess.PIPE, **variables: str
) -> Iterator["subprocess.Popen[str]"]:
    """`tunewell up` in a folder that holds packages named like Tunewell's own."""
    for name in ("app", "worker"):
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text("raise SystemExit('the wrong package')")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TUNEWELL_")}
    environment |= {"PYTHONPATH": str(launcher.PROJECT), "TUNEWELL_HOME": home} | variables
    command = [sys.executable, "-P", "-m", "app.cli", "up", "--port", str(port), "--workers", str(workers)]
    with subprocess.Popen(
        command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=stderr
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
                process.communicate(timeout=60)


@pytest.fixture
def up(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    with started(tmp_path, workers=0) as process:
        yield process


def url_of(process: "subprocess.Popen[str]") -> str:
    """The URL in its ready message."""
    assert process.stdout is not None
    found = URL.fullmatch(process.stdout.readline())
    assert found is not None
    return found[1]


def test_a_job_succeeds_with_any_home_and_environment(tmp_path: Path) -> None:
    with started(tmp_path, 1, NASTY, 0, subprocess.PIPE, **SHELL) as process, Client(url_of(process)) as client:
        spec = {"dataset": {"name": "digits"}, "search": {"strategy": "grid", "param_grid": {"num_neurons": [8]}}}
        job = client.submit(spec, fixed={"epochs": 1})
        wait_until(lambda: job.refresh().ended, 90)
        assert job.state == "succeeded"
    assert {place.name for place in tmp_path.iterdir()} == {"app", "worker", NASTY}


def test_up_prints_its_url_restarts_the_api_and_leaves_no_processes(
    up: "subprocess.Popen[str]", tmp_path: Path
) -> None:
    url = url_of(up)
    started = psutil.Process(up.pid).children(recursive=True)
    api = next(process for process in started if "uvicorn" in process.cmdline())
    api.send_signal(signal.SIGKILL)
    wait_until(lambda: is_ready(url))
    started = psutil.Process(up.pid).children(recursive=True)
    assert api.pid not in {process.pid for process in started}
    assert launcher.read_running(tmp_path / "here") == {"pid": up.pid, "url": url}
    up.send_signal(signal.SIGINT)
    rest, errors = up.communicate(timeout=60)
    assert up.returncode == 0
    assert rest == ""
    assert "api was killed by signal 9; restarting it" in errors
    assert all(is_gone(process.pid) for process in started)
    assert {file.name for file in (tmp_path / "here" / "logs").iterdir()} == {
        "api.log",
        "broker.log",
        "migration.log",
    }


def is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=2) as response:
            return bool(response.status == 200)
    except OSError:
        return False
