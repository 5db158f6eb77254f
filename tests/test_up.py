"""`tunewell up` as a user starts it: from some other folder, with broker and API."""

import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from app import local
from tests.test_local import gone, until

URL = re.compile(r"Tunewell is ready at (http://127\.0\.0\.1:\d+) \(0 workers; Ctrl-C stops\)\n")


@pytest.fixture
def up(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """It runs in a folder that holds packages named like Tunewell's own."""
    for name in ("app", "worker"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('the wrong package')")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TUNEWELL_")}
    environment |= {"PYTHONPATH": str(local.PROJECT), "TUNEWELL_HOME": "here"}
    command = [sys.executable, "-P", "-m", "app.cli", "up", "--port", "0", "--workers", "0"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, text=True, **pipes) as process:  # type: ignore[call-overload]
        try:
            yield process
        finally:
            process.terminate()
            process.communicate(timeout=60)


def test_up_tells_its_url_brings_the_api_back_and_leaves_nothing(up: "subprocess.Popen[str]", tmp_path: Path) -> None:
    assert up.stdout is not None
    found = URL.fullmatch(up.stdout.readline())
    assert found is not None
    started = psutil.Process(up.pid).children(recursive=True)
    api = next(process for process in started if "uvicorn" in process.cmdline())
    api.send_signal(signal.SIGKILL)
    until(lambda: is_ready(found[1]))
    started = psutil.Process(up.pid).children(recursive=True)
    assert api.pid not in {process.pid for process in started}
    assert local.running(tmp_path / "here") == {"pid": up.pid, "url": found[1]}
    up.send_signal(signal.SIGINT)
    rest, errors = up.communicate(timeout=60)
    assert up.returncode == 0
    assert rest == ""
    assert "api was killed by signal 9; starting it again" in errors
    assert all(gone(process.pid) for process in started)
    assert {file.name for file in (tmp_path / "here" / "logs").iterdir()} == {"api.log", "broker.log"}


def is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
