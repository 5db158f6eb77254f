"""The service as it runs for users: real `uvicorn` and `celery` processes, and a client."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2

from tests.support.servers import free_port

PROJECT = Path(__file__).parents[2]
START_SECONDS = 60
JOB_SECONDS = 100
# Runs a command as root without root's privilege to read everything.
UNPRIVILEGED = ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all")
ENDED = ("succeeded", "failed", "cancelled")


class Live:
    """Processes on one database, one broker and one home; they log into the home."""

    def __init__(self, home: Path, database_url: str, broker_url: str, host: str = "127.0.0.1") -> None:
        self._home, self._started = home, dict[str, subprocess.Popen[bytes]]()
        self._environment = {
            **os.environ,
            "TUNEWELL_HOME": str(home),
            "TUNEWELL_DATABASE_URL": database_url,
            "TUNEWELL_BROKER_URL": broker_url,
        }
        port = str(free_port())
        self._start("api", "uvicorn", "app.main:app", "--host", host, "--port", port, "--no-access-log")
        self.client = httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=60)
        self.until(self._ready, START_SECONDS)

    def start_worker(
        self, name: str, changed: Mapping[str, str] | None = None, prefix: Sequence[str] = (), node: str = ""
    ) -> None:
        """Start a worker with one training process, optionally with more environment or another command."""
        options = ("--concurrency", "1", "--hostname", node or f"{name}@test", "--loglevel", "INFO")
        self._start(name, "celery", "-A", "worker.tasks", "worker", *options, changed=changed, prefix=prefix)

    def pids(self, *names: str) -> list[int]:
        """The process ids of some processes."""
        return [self._started[name].pid for name in names]

    def _start(
        self,
        name: str,
        module: str,
        *arguments: str,
        changed: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
    ) -> None:
        with (self._home / f"{name}.log").open("wb") as log:
            self._started[name] = subprocess.Popen(
                [*prefix, sys.executable, "-m", module, *arguments],
                cwd=PROJECT,
                env={**self._environment, **(changed or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _ready(self) -> bool:
        try:
            return self.client.get("/readyz").status_code == 200
        except httpx2.TransportError:
            return False

    def until(self, reached: Callable[[], bool], seconds: float) -> None:
        """Wait until the condition is true, while all processes are alive."""
        deadline = time.monotonic() + seconds
        while not reached():
            for name, process in self._started.items():
                assert process.poll() is None, f"{name} ended: {self.said(name)}"
            assert time.monotonic() < deadline, "\n".join(self.said(name) for name in self._started)
            time.sleep(0.1)

    def said(self, name: str) -> str:
        """The end of a process's log."""
        return (self._home / f"{name}.log").read_text(errors="replace")[-2000:]

    def get(self, address: str) -> Any:
        """The response to a GET."""
        response = self.client.get(address)
        assert response.status_code == 200, response.text
        return response.json()

    def post(self, spec: dict[str, Any]) -> str:
        """The path of the accepted job."""
        response = self.client.post("/v1/jobs", json=spec)
        assert response.status_code == 202, response.text
        return str(response.headers["Location"])

    def wait(self, address: str, *states: str) -> dict[str, Any]:
        """The job, once it is in one of these states, or has ended if none is named."""
        job: dict[str, Any] = {}

        def reached() -> bool:
            job.update(self.get(address))
            return job["state"] in (states or ENDED)

        self.until(reached, JOB_SECONDS)
        return job

    def resident(self, name: str) -> int:
        """Megabytes in memory of one process, of 1024 times 1024 bytes."""
        return self._read_memory(name, "VmRSS")

    def peak(self, name: str) -> int:
        """The same, at most so far."""
        return self._read_memory(name, "VmHWM")

    def _read_memory(self, name: str, field: str) -> int:
        status = Path(f"/proc/{self._started[name].pid}/status").read_text()
        kilobytes = next(line.split()[1] for line in status.splitlines() if line.startswith(field))
        return int(kilobytes) // 1024

    def stop(self) -> None:
        """End all processes and what they started."""
        self.client.close()
        for process in self._started.values():
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        for name in list(self._started):
            self.end(name)

    def end_gracefully(self, name: str) -> int:
        """Ask one process to end, wait until it has, and tell its exit code."""
        process = self._started.pop(name)
        process.send_signal(signal.SIGTERM)
        return process.wait(timeout=START_SECONDS)

    def end(self, name: str) -> None:
        """End one process and what it started."""
        process = self._started.pop(name)
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=20)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def live(home: Path, database_url: str, broker_url: str, workers: int, host: str = "127.0.0.1") -> Iterator[Live]:
    """A running service with `workers` workers, stopped afterwards."""
    home.mkdir(exist_ok=True)
    made = Live(home, database_url, broker_url, host)
    try:
        for number in range(workers):
            made.start_worker(f"w{number + 1}")
        yield made
    finally:
        made.stop()
