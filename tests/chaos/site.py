"""A complete Tunewell for the chaos suite: API and workers as real processes, with its own broker and database."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
import psutil
from sqlalchemy import Engine

from app.local.supervisor import LIBC, PR_SET_PDEATHSIG
from app.tuning.database import connect
from app.tuning.migrations import migrate
from tests.support.servers import Broker, free_port

PROJECT = Path(__file__).resolve().parents[2]
START_SECONDS = 180  # on a machine that does much else
ENDED = ("succeeded", "failed", "cancelled")


def _die_with_parent() -> None:
    if LIBC is not None:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Part:
    """One process, the leader of its own group, which is restarted when it dies."""

    def __init__(self, name: str, command: list[str], environment: dict[str, str], log: Path) -> None:
        self.name, self._command, self._environment, self.log = name, command, environment, log
        self.wanted = True
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._log_start = log.tell()
            self.process = subprocess.Popen(
                self._command,
                env=self._environment,
                cwd=PROJECT,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )

    def listens(self) -> bool:
        """Whether this worker has logged that it is ready since its last start."""
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            return f"{self.name} ready.".encode() in log.read()

    def revive(self) -> None:
        """Restart it if it has died unintentionally."""
        if self.wanted and self.process.poll() is not None:
            self.start()

    def kill(self) -> None:
        """Kill -9, with all its children; a process id that is no longer its own is left alone."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def freeze(self) -> None:
        """SIGSTOP to the process and its children."""
        os.killpg(self.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.killpg(self.process.pid, signal.SIGCONT)

    def children(self) -> list[psutil.Process]:
        """The training processes of a worker."""
        found = psutil.Process(self.process.pid).children(recursive=True)
        return [child for child in found if "resource_tracker" not in " ".join(child.cmdline())]


class Site:
    """API, workers, broker and database, with methods to damage them and to read the results."""

    def __init__(self, folder: Path, database_url: str, broker: Broker, broker_url: str | None = None) -> None:
        self.folder, self.database_url, self.broker = folder, database_url, broker
        self.engine: Engine = connect(database_url)
        self.url = f"http://127.0.0.1:{free_port()}"
        self.http = httpx2.Client(base_url=self.url, timeout=30)
        self.parts: dict[str, Part] = {}
        self._environment = {
            **os.environ,
            "TUNEWELL_HOME": str(folder),
            "TUNEWELL_DATABASE_URL": database_url,
            "TUNEWELL_BROKER_URL": broker_url or broker.url,
            "TUNEWELL_LOG_FORMAT": "json",
            "CHAOS_FOLDER": str(folder),
            "TUNEWELL_DATA_DIR": str(folder / "data"),
        }
        self._ended = threading.Event()
        self._reviver = threading.Thread(target=self._revive, daemon=True)
        self._reviver.start()

    def start_api(self, database_url: str | None = None) -> None:
        """Start the API, with another database URL if given."""
        port = self.url.rpartition(":")[2]
        command = [sys.executable, "-m", "uvicorn", "tests.chaos.api:app", "--port", port, "--no-access-log"]
        self._start("api", command, database_url)
        until(self.ready, START_SECONDS, "the API is ready")

    def start_workers(self, count: int, database_url: str | None = None, processes: int = 1) -> None:
        """Start workers, and wait until they are ready."""
        for number in range(1, count + 1):
            name = f"w{number}@chaos"
            self._start(name, self._celery(name, processes), database_url)
        until(lambda: self.listening() == count, START_SECONDS, "all workers listen")

    def start_worker(self, name: str, **changed: str) -> None:
        """Start one more worker with more environment, and wait until it is ready."""
        self._start(name, self._celery(name), None, changed)
        until(self.parts[name].listens, START_SECONDS, f"{name} listens")

    def end(self, name: str) -> None:
        """End a process for good."""
        part = self.parts.pop(name)
        part.wanted = False
        part.kill()

    @property
    def workers(self) -> list[str]:
        return [name for name in self.parts if name != "api"]

    def listening(self) -> int:
        """How many workers are up."""
        return sum(self.parts[name].listens() for name in self.workers)

    def ready(self) -> bool:
        """Whether the API's `/readyz` is 200."""
        try:
            return self.http.get("/readyz", timeout=5).status_code == 200
        except httpx2.HTTPError:
            return False

    def post(self, spec: dict[str, Any], key: str | None = None, patience: float = 30) -> str:
        """Post a job until it is accepted; its id."""
        headers = {"Idempotency-Key": key} if key else {}
        deadline = time.monotonic() + patience
        while True:
            try:
                response = self.http.post("/v1/jobs", json=spec, headers=headers)
                if response.status_code == 202:
                    return str(response.json()["id"])
                if response.status_code != 503:
                    raise AssertionError(f"{response.status_code} {response.text}")
            except httpx2.TransportError:
                pass
            if time.monotonic() > deadline:
                raise AssertionError("the job is not accepted")
            time.sleep(0.1)

    def job(self, job_id: str) -> dict[str, Any]:
        """The job's current state; empty while the API is away."""
        with suppress(httpx2.HTTPError):
            response = self.http.get(f"/v1/jobs/{job_id}")
            if response.status_code == 200:
                return dict(response.json())
        return {"state": "unknown"}

    def ended(self, job_id: str) -> bool:
        return self.job(job_id)["state"] in ENDED

    def wait(self, job_id: str, seconds: float = 300) -> dict[str, Any]:
        """The job when it has ended."""
        until(lambda: self.ended(job_id), seconds, f"job {job_id} ends")
        return self.job(job_id)

    def said(self, text: str, names: Iterable[str] = ()) -> int:
        """How often some processes have logged a text."""
        logs = [self.parts[name].log.read_text(errors="replace") for name in names or self.parts]
        return sum(log.count(text) for log in logs)

    def acts(self) -> list[dict[str, Any]]:
        """The notes that the fake training has written."""
        file = self.folder / "acts"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def close(self) -> None:
        """End everything."""
        self._ended.set()
        self._reviver.join()
        for part in self.parts.values():
            part.kill()
        self.http.close()
        self.engine.dispose()

    @staticmethod
    def _celery(name: str, processes: int = 1) -> list[str]:
        command = [sys.executable, "-m", "celery", "-A", "tests.chaos.worker", "worker", "--hostname", name]
        options = ["--concurrency", str(processes), "--loglevel", "INFO", "--without-mingle", "--without-gossip"]
        return command + options

    def _start(
        self, name: str, command: list[str], database_url: str | None, changed: Mapping[str, str] | None = None
    ) -> None:
        environment = self._environment | {
            "TUNEWELL_DATABASE_URL": database_url or self.database_url,
            **(changed or {}),
        }
        self.parts[name] = Part(name, command, environment, self.folder / f"{name}.log")

    def _revive(self) -> None:
        while not self._ended.wait(0.1):
            for part in list(self.parts.values()):
                part.revive()


@contextmanager
def site(folder: Path, database_url: str, broker: Broker, broker_url: str | None = None) -> Iterator[Site]:
    """A site with the newest schema and no processes yet; removed afterwards."""
    folder.mkdir(parents=True, exist_ok=True)
    made = Site(folder, database_url, broker, broker_url)
    try:
        migrate(made.engine)
        yield made
    finally:
        made.close()


def until(done: Callable[[], bool], seconds: float, what: str = "") -> float:
    """Wait until `done()`; the seconds it took."""
    start = time.monotonic()
    while not done():
        if time.monotonic() - start > seconds:
            raise AssertionError(f"{what or 'something'} took longer than {seconds:g} s")
        time.sleep(0.1)
    return time.monotonic() - start


def spec(trials: int, ms: int = 0, folds: int = 3, **labels: str) -> dict[str, Any]:
    """A job of `trials * folds` fits and a refit, of so many milliseconds each."""
    return {
        "dataset": {"name": "digits"},
        "search": {"strategy": "grid", "param_grid": {"num_neurons": list(range(1, trials + 1))}},
        "evaluation": {"cv": folds},
        "random_state": 7,
        "labels": {"ms": str(ms), **labels},
    }


def moment(mean: float) -> None:
    """Wait for a random time."""
    time.sleep(random.uniform(0.1, 2 * mean - 0.1))
