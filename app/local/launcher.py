"""`tunewell up`: broker, API and workers of one machine, as children of one process."""

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
WORKER_GRACE_SECONDS = 20.0  # seconds; a worker gives its fit back within ten
EXPLAIN_AFTER_SECONDS = 10.0  # seconds before it is said what the start waits for


class CannotStart(Exception):
    """What the user has to change, in one sentence."""


def run_up(host: str, port: int, workers: int | None) -> int:
    """Run everything until SIGINT or SIGTERM; the exit code."""
    try:
        here = settings()
        home = here.home.absolute()
        with hold_home_lock(home) as held:
            _end_left_behind(home)
            port = find_free_port(host, port)
            url = f"http://{_reachable_host(host)}:{port}"
            return _supervise(
                here, host, port, machine.count_default_workers() if workers is None else workers, url, held
            )
    except (CannotStart, BrokerUnavailable) as error:
        write_note(str(error))
    return 1


def _supervise(here: Settings, host: str, port: int, workers: int, url: str, held: TextIO) -> int:
    home = here.home.absolute()
    supervisor = Supervisor(make_child_environment(here), PROJECT)
    supervisor.handle_signals()
    try:
        if not _start(supervisor, here, host, port, workers, url):
            return 0 if supervisor.signals else 1
        write_running(held, url)
        write_note(f"Tunewell is ready at {url} ({workers} worker{'s' * (workers != 1)}; Ctrl-C stops)", sys.stdout)
        supervisor.run()
        return 0
    finally:
        if supervisor.signals:
            write_note("Stopping (once more stops at once)")
        supervisor.stop()
        end_processes(find_orphans(home))


def _start(supervisor: Supervisor, here: Settings, host: str, port: int, workers: int, url: str) -> bool:
    """Start the broker, then all that needs it; True once `/readyz` says 200."""
    home, logs = here.home.absolute(), here.home.absolute() / "logs"
    _prepare_database(supervisor, logs)
    if not here.broker_url:
        supervisor.start([make_broker_part(home, here.broker_socket, logs / "broker.log")])
        if not supervisor.wait_until(lambda: is_responding(here.broker_socket)):
            return _not_started(supervisor)
    supervisor.start([_make_api_part(host, port, logs)])
    supervisor.start(_make_worker_part(number, logs) for number in range(1, workers + 1))
    if host not in {"127.0.0.1", "::1", "localhost"}:
        write_note(f"Whoever can reach port {port} of {host} can use this Tunewell.")
    readiness = _Readiness(url, logs / "api.log")
    if not supervisor.wait_until(readiness.over):
        return _not_started(supervisor)
    if readiness.degraded:
        write_note(
            f"Degraded: the broker at {urls.describe_place(here.broker)} cannot be reached; "
            "jobs are accepted and wait for it."
        )
    return True


def _prepare_database(supervisor: Supervisor, logs: Path) -> None:
    """Bring the database to the newest schema, or say why that cannot be yet: the API goes on trying.

    Raises:
        CannotStart: it is another program's or a newer Tunewell's.
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
        write_note(f"The database cannot be used yet:\n{part.last_lines()}")


def _not_started(supervisor: Supervisor) -> bool:
    for part in (part for stage in supervisor.stages for part in stage if part.quick_deaths >= 3):
        supervisor.say(f"{part.name} does not start; giving up. All of its log is in {part.log}")
    return False


def _make_api_part(host: str, port: int, logs: Path) -> Part:
    command = [sys.executable, "-m", "uvicorn", "app.main:app", "--host", host, "--port", str(port)]
    return Part("api", [*command, "--no-access-log", "--timeout-graceful-shutdown", "3"], logs / "api.log")


def _make_worker_part(number: int, logs: Path) -> Part:
    name, gpus = f"worker-{number}", machine.list_gpus()
    own = ["env", f"CUDA_VISIBLE_DEVICES={gpus[(number - 1) % len(gpus)]}"] if gpus else []
    celery = [sys.executable, "-m", "celery", "-A", "worker.tasks", "worker", "--concurrency", "1"]
    command = [*own, *celery, "--loglevel", "INFO"]
    options = ["--hostname", f"tunewell-{number}@%h", "--without-mingle", "--without-gossip"]
    return Part(name, command + options, logs / f"{name}.log", grace=WORKER_GRACE_SECONDS)


class _Readiness:
    """Asks `/readyz` until it says 200, and tells once what it waits for when that takes long."""

    def __init__(self, url: str, log: Path) -> None:
        self._url, self._log = f"{url}/readyz", log
        self._told_at = time.monotonic() + EXPLAIN_AFTER_SECONDS
        self._open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
        self.degraded = False

    def over(self) -> bool:
        try:
            with self._open(self._url, timeout=2) as answer:
                self.degraded = json.load(answer).get("status") == "degraded"
                return bool(answer.status == 200)
        except (OSError, ValueError) as error:
            if time.monotonic() >= self._told_at:
                self._told_at = float("inf")
                write_note(f"Still waiting for {self._url} ({error}); what keeps it may stand in {self._log}")
            return False


@contextmanager
def hold_home_lock(home: Path) -> Iterator[TextIO]:
    """Hold the home's lock: one `tunewell up` a home, however it ended before."""
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)  # data sets and results are the user's own affair
        (home / "logs").mkdir(exist_ok=True)
        file = (home / "up.lock").open("a+")
    except OSError as error:
        raise CannotStart(f"TUNEWELL_HOME cannot be written to: {home} ({error.strerror}).") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            where = read_running(home)
            other = f"at {where['url']} (process {where['pid']})" if where else "or is just starting or stopping"
            raise CannotStart(f"Tunewell already runs in {home}, {other}.") from None
        write_running(file, "")
        yield file
        write_running(file, "")


def read_running(home: Path) -> dict[str, Any] | None:
    """The `pid` and `url` of the Tunewell that runs in a home; None while none is ready there."""
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
    """Note in the lock file where this Tunewell is; an empty URL says that it is not ready or no more."""
    with suppress(OSError):  # on a full disk it is not noted
        os.ftruncate(held.fileno(), 0)
        os.write(held.fileno(), json.dumps({"pid": os.getpid(), "url": url} if url else {}).encode())


def find_orphans(home: Path) -> list[psutil.Process]:
    """Every process that was started for this home and has outlived its supervisor."""
    found = find_orphaned_broker(home)
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(MARK) == str(home):
                found.append(process)
        except (psutil.Error, OSError):  # gone, or somebody else's
            continue
    return found


def end_processes(processes: list[psutil.Process], grace: float = 0.0) -> None:
    """SIGTERM and, after the grace, SIGKILL."""
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


def _end_left_behind(home: Path) -> None:
    if found := find_orphans(home):
        write_note(f"Ending {len(found)} processes that an earlier Tunewell left behind")
        end_processes(found, grace=10.0)


def find_free_port(host: str, port: int) -> int:
    """The port, or a free one for 0, after seeing that it can be listened on."""
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


def _reachable_host(host: str) -> str:
    """The host as it stands in a URL for this machine."""
    here = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)
    return f"[{here}]" if ":" in here else here
