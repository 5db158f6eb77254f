"""The real parts of Tunewell, started for a measurement in their own home and removed afterwards."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from app.local.environment import MARK
from app.local.launcher import PROJECT
from app.local.supervisor import Part, end_with_parent
from app.tuning.settings import settings
from tests.support import servers
from tunewell import Client, ServiceUnreachable, calls
from tunewell.effects import Document
from tunewell.service import ENDED_STATES

DATABASES = ("SQLite", "PostgreSQL")
POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Service:
    """A running Tunewell: its URL, its processes, and how long it took to be ready."""

    url: str
    process: psutil.Process
    ready_seconds: float


@contextmanager
def home() -> Iterator[Path]:
    """A temporary folder whose name is short enough for a socket's path."""
    with tempfile.TemporaryDirectory(prefix="tw-bench-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def environment(place: Path, **more: str) -> dict[str, str]:
    """The environment for a Tunewell in this home, without the benchmark's own settings except the data folder."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TUNEWELL_")}
    data = str(settings().data_dir.expanduser().absolute())
    return {**clean, "TUNEWELL_HOME": str(place), "TUNEWELL_DATA_DIR": data, "PYTHONUNBUFFERED": "1", **more}


@contextmanager
def tunewell(workers: int) -> Iterator[Service]:
    """`tunewell up`, as a user starts it."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "app.cli", "up", "--port", "0", "--workers", str(workers)]
    with home() as place:
        process = subprocess.Popen(
            command,
            cwd=PROJECT,
            env={name: value for name, value in environment(place).items() if name != MARK},
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=end_with_parent,
        )
        try:
            line = process.stdout.readline() if process.stdout else ""
            if not (found := re.search(r"ready at (\S+)", line)):
                raise ServiceUnreachable(f"`tunewell up` did not start: {line!r}")
            yield Service(found[1], psutil.Process(process.pid), time.perf_counter() - began)
        finally:
            process.terminate()
            process.wait()


@contextmanager
def api(place: Path, **urls: str) -> Iterator[Service]:
    """The API alone, as `uvicorn app.main:app`."""
    port = servers.free_port()
    command = ["uvicorn", "app.main:app", "--host", "127.0.0.1", "--port", str(port), "--no-access-log"]
    began = time.perf_counter()
    with _running("api", command, place, urls) as part:
        url = f"http://127.0.0.1:{port}"
        _wait_until_ready(url, part)
        assert part.process
        yield Service(url, psutil.Process(part.process.pid), time.perf_counter() - began)


@contextmanager
def workers(place: Path, count: int, app: str, **urls: str) -> Iterator[list[psutil.Process]]:
    """Workers of one process each; `app` is `worker.tasks` or one with fake training."""
    command = ["celery", "-A", app, "worker", "--concurrency", "1", "--loglevel", "WARNING"]
    quiet = ["--without-mingle", "--without-gossip"]
    with ExitStack() as stack:
        started = []
        for number in range(1, count + 1):
            named = [*command, "--hostname", f"bench-{number}@%h", *quiet]
            part = stack.enter_context(_running(f"worker-{number}", named, place, urls))
            assert part.process
            started.append(psutil.Process(part.process.pid))
        yield started


@contextmanager
def _running(name: str, module: list[str], place: Path, urls: dict[str, str]) -> Iterator[Part]:
    part = Part(name, [sys.executable, "-m", *module], place / f"{name}.log")
    part.start(environment(place, **urls), PROJECT)
    try:
        yield part
    finally:
        part.terminate()
        deadline = time.monotonic() + 15
        while part.alive() and time.monotonic() < deadline:
            time.sleep(0.05)
        part.kill()


def _wait_until_ready(url: str, part: Part) -> None:
    deadline = time.monotonic() + 60
    with Client(url) as client:
        while time.monotonic() < deadline:
            if not part.alive():
                raise ServiceUnreachable(f"{part.name} ended: {part.last_lines()}")
            try:
                client.jobs(limit=1)
                return
            except ServiceUnreachable:
                time.sleep(0.1)
    raise ServiceUnreachable(f"{part.name} was not ready within a minute: {part.last_lines()}")


def wait(client: Client, job_id: str, most: float = 3600.0, workers: Sequence[psutil.Process] = ()) -> Document:
    """The job once it has ended.

    Raises:
        TimeoutError: it has not ended within `most` seconds.
        RuntimeError: one of the workers that train it is gone.
    """
    deadline = time.monotonic() + most
    while (job := client.fetch(calls.show_job(job_id)))["state"] not in ENDED_STATES:
        if time.monotonic() > deadline:
            raise TimeoutError(f"job still {job['state']} after {most:.0f} s: {job['fits']}")
        if any(worker.status() == psutil.STATUS_ZOMBIE for worker in workers):
            raise RuntimeError("a worker has ended")
        time.sleep(POLL_SECONDS)
    return job


class Durable(servers.Postgres):
    """PostgreSQL as it is installed: a commit is on the disk."""

    def start(self) -> None:
        where = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories="
        options = f"{where} -c max_connections=300"
        self._call("pg_ctl", "-D", str(self._data), "-l", str(self._log), "-o", options, "-w", "start")


@contextmanager
def broker() -> Iterator[str]:
    """The URL of a broker for the benchmark alone."""
    with servers.broker() as server:
        yield server.url


@contextmanager
def databases() -> Iterator[dict[str, Callable[[], str]]]:
    """For each installed kind of database, a factory of the URL of an empty one."""
    with home() as place, ExitStack() as stack:
        found = {"SQLite": lambda: f"sqlite:///{place / f'{time.monotonic_ns()}.db'}"}
        if programs := _postgres_programs():
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tw-bench-pg-")))
            server = Durable(programs, folder)
            stack.callback(server.kill)
            found["PostgreSQL"] = server.new_database
        yield found


def _postgres_programs() -> Path | None:
    places = [place for pattern in servers.POSTGRES_PLACES for place in sorted(Path("/").glob(pattern[1:]))]
    on_path = shutil.which("pg_ctl")
    return Path(on_path).parent if on_path else next(iter(places[::-1]), None)
