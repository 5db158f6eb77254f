"""`tunewell up`: runs broker, API and workers of one machine as children of one process."""

import fcntl
import json
import os
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

import psutil

from app.local import machine
from app.local.broker import BrokerUnavailable, find_orphaned_broker, is_responding, make_broker_part
from app.local.environment import MARK, make_child_environment
from app.local.notes import write_note
from app.local.supervisor import Part, Supervisor
from app.tuning import urls
from app.tuning.settings import EXIT_MISCONFIGURED, Settings, settings

PROJECT = Path(__file__).resolve().parents[2]
WORKER_GRACE_SECONDS = 20.0  # a worker releases its fit within ten
EXPLAIN_AFTER_SECONDS = 10.0  # until a note says what the start is waiting for


class CannotStart(Exception):
    """The message says in one sentence what the user has to change."""


def run_up(host: str, port: int, workers: int | None) -> int:
    """Run everything until SIGINT or SIGTERM, and return the exit code."""
    try:
        config = settings()
        home = config.home.absolute()
        with hold_home_lock(home) as held:
            _end_orphans(home)
            port = find_free_port(host, port)
            url = f"http://{_url_host(host)}:{port}"
            return _supervise(
                config, host, port, machine.count_default_workers() if workers is None else workers, url, held
            )
    except (CannotStart, BrokerUnavailable) as error:
        write_note(str(error))
    return 1


def _supervise(config: Settings, host: str, port: int, workers: int, url: str, held: TextIO) -> int:
    home = config.home.absolute()
    supervisor = Supervisor(make_child_environment(config), PROJECT)
    supervisor.handle_signals()
    try:
        if not _start(supervisor, config, host, port, workers, url):
            return 0 if supervisor.signals else 1
        write_running(held, url)
        counted = f"{workers} worker{'s' * (workers != 1)}"
        write_note(f"Tunewell is ready at {url} (open it in a browser; {counted}; Ctrl-C stops)", sys.stdout)
        supervisor.run()
        return 0
    finally:
        if supervisor.signals:
            write_note("Stopping (Ctrl-C again stops at once)")
        supervisor.stop()
        end_processes(find_orphans(home))


def _start(supervisor: Supervisor, config: Settings, host: str, port: int, workers: int, url: str) -> bool:
    """Start the broker, then the rest; True once `/readyz` responds with 200."""
    home, logs = config.home.absolute(), config.home.absolute() / "logs"
    _prepare_database(supervisor, logs)
    if not config.broker_url:
        supervisor.start([make_broker_part(home, config.broker_socket, logs / "broker.log")])
        if not supervisor.wait_until(lambda: is_responding(config.broker_socket)):
            return _report_failed_start(supervisor)
    supervisor.start([_make_api_part(host, port, logs)])
    supervisor.start(_make_worker_part(number, logs) for number in range(1, workers + 1))
    if host not in {"127.0.0.1", "::1", "localhost"}:
        write_note(f"Tunewell has no login: anyone who can reach port {port} of {host} can use it.")
    readiness = _Readiness(url, logs / "api.log")
    if not supervisor.wait_until(readiness.is_over):
        return _report_failed_start(supervisor)
    if readiness.degraded:
        write_note(
            f"Degraded: the broker at {urls.describe_place(config.broker)} cannot be reached; "
            "jobs are accepted and start when it is back."
        )
    return True


def _prepare_database(supervisor: Supervisor, logs: Path) -> None:
    """Migrate the database, or say why that is not possible yet: the API keeps trying.

    Raises:
        CannotStart: the database belongs to another program or to a newer Tunewell.
    """
    part = Part("migration", [sys.executable, "-m", "app.tuning.migrations"], logs / "migration.log")
    part.start(supervisor.environment, PROJECT)
    deadline = time.monotonic() + EXPLAIN_AFTER_SECONDS
    supervisor.wait_until(lambda: not part.alive() or time.monotonic() > deadline)
    code = part.process.poll() if part.process else None
    part.kill()
    if code == EXIT_MISCONFIGURED:
        raise CannotStart(f"Tunewell cannot start on this database:\n{part.last_lines()}")
    if code != 0 and not supervisor.signals:
        write_note(f"The database is not usable yet:\n{part.last_lines()}")


def _report_failed_start(supervisor: Supervisor) -> bool:
    for part in (part for stage in supervisor.stages for part in stage if part.quick_deaths >= 3):
        supervisor.say(f"{part.name} does not start; giving up. Its log is {part.log}")
    return False


def _make_api_part(host: str, port: int, logs: Path) -> Part:
    # One heap for all threads, as in the Dockerfile: the API stays small.
    command = ["env", "MALLOC_ARENA_MAX=1", sys.executable, "-m", "uvicorn", "app.main:app"]
    options = ["--host", host, "--port", str(port), "--no-access-log", "--timeout-graceful-shutdown", "3"]
    return Part("api", command + options, logs / "api.log")


def _make_worker_part(number: int, logs: Path) -> Part:
    name, gpus = f"worker-{number}", machine.list_gpus()
    own = ["env", f"CUDA_VISIBLE_DEVICES={gpus[(number - 1) % len(gpus)]}"] if gpus else []
    celery = [sys.executable, "-m", "celery", "-A", "worker.tasks", "worker", "--concurrency", "1"]
    command = [*own, *celery, "--loglevel", "INFO"]
    options = ["--hostname", f"tunewell-{number}@%h", "--without-mingle", "--without-gossip"]
    return Part(name, command + options, logs / f"{name}.log", grace=WORKER_GRACE_SECONDS)


class _Readiness:
    """Polls `/readyz`; if that takes long, says once what it is waiting for."""

    def __init__(self, url: str, log: Path) -> None:
        self._url, self._log = f"{url}/readyz", log
        self._explain_at = time.monotonic() + EXPLAIN_AFTER_SECONDS
        self._open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
        self.degraded = False

    def is_over(self) -> bool:
        try:
            with self._open(self._url, timeout=2) as response:
                self.degraded = json.load(response).get("status") == "degraded"
                return bool(response.status == 200)
        except (OSError, ValueError) as error:
            if time.monotonic() >= self._explain_at:
                self._explain_at = float("inf")
                write_note(f"Still waiting for {self._url} ({error}); the reason may be in {self._log}")
            return False


@contextmanager
def hold_home_lock(home: Path) -> Iterator[TextIO]:
    """Hold the home's lock, which the kernel releases even after a crash: one `tunewell up` per home."""
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)  # data sets and results are private
        (home / "logs").mkdir(exist_ok=True)
        file = (home / "up.lock").open("a+")
    except OSError as error:
        raise CannotStart(f"TUNEWELL_HOME cannot be written to: {home} ({error.strerror}).") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            where = read_running(home)
            other = f"at {where['url']} (process {where['pid']})" if where else "and is starting or stopping"
            raise CannotStart(f"Tunewell already runs in {home}, {other}.") from None
        write_running(file, "")
        yield file
        write_running(file, "")


def read_running(home: Path) -> dict[str, Any] | None:
    """The `pid` and `url` of the Tunewell that runs in a home; None if none is ready."""
    try:
        with (home / "up.lock").open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return json.loads(file.read()) or None
    except (OSError, ValueError):
        pass
    return None


def write_running(held: TextIO, url: str) -> None:
    """Record in the lock file where this Tunewell is; an empty URL means that it is not ready or has stopped."""
    with suppress(OSError):  # a full disk
        os.ftruncate(held.fileno(), 0)
        os.write(held.fileno(), json.dumps({"pid": os.getpid(), "url": url} if url else {}).encode())


def find_orphans(home: Path) -> list[psutil.Process]:
    """Every process started for this home that has outlived its supervisor."""
    found = find_orphaned_broker(home)
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(MARK) == str(home):
                found.append(process)
        except (psutil.Error, OSError):  # gone, or another user's
            continue
    return found


def end_processes(processes: list[psutil.Process], grace: float = 0.0) -> None:
    """Send SIGTERM and, after the grace period, SIGKILL."""
    if grace:
        for process in processes:
            _signal(process, "terminate")
        _, processes = psutil.wait_procs(processes, timeout=grace)
    for process in processes:
        _signal(process, "kill")
    psutil.wait_procs(processes, timeout=5)


def _signal(process: psutil.Process, how: str) -> None:
    with suppress(psutil.NoSuchProcess):
        getattr(process, how)()


def _end_orphans(home: Path) -> None:
    if found := find_orphans(home):
        write_note(f"Ending {len(found)} processes left behind by an earlier Tunewell")
        end_processes(found, grace=10.0)


def find_free_port(host: str, port: int) -> int:
    """The port, or a free one for 0, after checking that it can be listened on."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            return int(probe.getsockname()[1])
    except OSError as error:
        raise CannotStart(
            f"Cannot listen on {host}, port {port}: {error.strerror}. Choose another --host or --port."
        ) from error


def _url_host(host: str) -> str:
    """The host in a URL that works on this machine."""
    here = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)
    return f"[{here}]" if ":" in here else here
