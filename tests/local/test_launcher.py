"""The launcher with real processes and the real broker program."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from app.local import launcher
from app.local.broker import is_responding, make_broker_part
from app.local.environment import MARK, make_child_environment
from app.local.supervisor import Part, Supervisor
from app.tuning.settings import Settings

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]
# Ignores SIGTERM, and prints the pid of a child that does so too.
STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if len(sys.argv) > 1:
    print(subprocess.Popen([sys.executable, "-c", sys.argv[1]]).pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    (folder / "logs").mkdir(parents=True)
    return folder


@pytest.fixture
def notes() -> list[str]:
    return []


@pytest.fixture
def supervisor(home: Path, notes: list[str]) -> Iterator[Supervisor]:
    supervisor = Supervisor({**os.environ, MARK: str(home)}, home, notes.append)
    yield supervisor
    supervisor.signals += 1
    supervisor.stop()


def part(home: Path, command: list[str], name: str = "worker-1") -> Part:
    return Part(name, command, home / "logs" / f"{name}.log", grace=0.5)


def pid_of(part: Part) -> int:
    assert part.process is not None
    return part.process.pid


def wait_until(done: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.02)


def is_gone(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def test_a_killed_part_restarts_in_its_own_process_group(supervisor: Supervisor, home: Path, notes: list[str]) -> None:
    worker = part(home, SLEEP)
    supervisor.start([worker])
    first = pid_of(worker)
    assert os.getsid(first) == first
    os.kill(first, signal.SIGKILL)
    assert supervisor.wait_until(lambda: worker.alive() and pid_of(worker) != first)
    assert notes == ["worker-1 was killed by signal 9; restarting it"]


def test_children_of_a_killed_part_are_killed(supervisor: Supervisor, home: Path) -> None:
    worker = part(home, [sys.executable, "-c", STUBBORN, STUBBORN])
    supervisor.start([worker])
    wait_until(lambda: worker.log.read_text().endswith("\n"))
    grandchild = int(worker.log.read_text())
    os.kill(pid_of(worker), signal.SIGKILL)
    assert supervisor.wait_until(lambda: is_gone(grandchild))


def test_stopping_kills_processes_that_ignore_sigterm(supervisor: Supervisor, home: Path, notes: list[str]) -> None:
    others = set(psutil.Process().children(recursive=True))  # such as the servers of other tests
    stubborn = part(home, [sys.executable, "-c", STUBBORN, STUBBORN])
    supervisor.start([part(home, SLEEP, "api")])
    supervisor.start([stubborn])
    wait_until(lambda: stubborn.log.read_text().endswith("\n"))
    everything = set(psutil.Process().children(recursive=True)) - others
    assert len(everything) == 3
    supervisor.stop()
    assert all(is_gone(process.pid) for process in everything)
    assert notes == ["worker-1 does not stop; killing it"]


def test_stages_stop_in_reverse_order(supervisor: Supervisor, home: Path) -> None:
    note = (
        "import signal, sys, time; signal.signal(15, lambda *_: (open('order', 'a').write(sys.argv[1]), sys.exit()));"
    )
    note += "print('up', flush=True); time.sleep(600)"
    parts = [part(home, [sys.executable, "-c", note, name], name) for name in ("b", "a", "w")]
    for one in parts:
        one.grace = 30
        supervisor.start([one])
        wait_until(lambda one=one: "up" in one.log.read_text())  # type: ignore[misc]
    supervisor.stop()
    assert (home / "order").read_text() == "wab"


def test_a_part_that_keeps_failing_to_start_is_given_up_and_its_log_shown(
    supervisor: Supervisor, home: Path, notes: list[str]
) -> None:
    supervisor.start([part(home, [sys.executable, "-c", "raise SystemExit('no such database')"], "api")])
    assert not supervisor.wait_until(lambda: False)
    assert notes[0] == "api ended with exit code 1; restarting it"
    assert "no such database" in notes[1]
    assert notes[2:] == [notes[0]] * 2


def test_a_missing_program_is_reported(supervisor: Supervisor, home: Path, notes: list[str]) -> None:
    supervisor.start([part(home, [str(home / "no-such-program")], "broker"), part(home, SLEEP)])
    assert not supervisor.wait_until(lambda: False)
    assert notes[0].startswith("broker cannot be started")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux signals children when their parent dies")
def test_children_end_when_the_supervisor_is_killed(home: Path) -> None:
    code = f"""
import os, sys, time
from pathlib import Path
from app.local.supervisor import Part, Supervisor
part = Part("worker", {SLEEP!r}, Path({str(home)!r}) / "log")
Supervisor(os.environ, Path("/")).start([part])
print(part.process.pid, flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
    wait_until(lambda: is_gone(child))


def test_only_orphans_of_the_same_home_are_ended(home: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != MARK}
    ours = subprocess.Popen(SLEEP, env={**environment, MARK: str(home)})
    others = subprocess.Popen(SLEEP, env={**environment, MARK: str(home / "other")})
    try:
        wait_until(lambda: [process.pid for process in launcher.find_orphans(home)] == [ours.pid])
        launcher.end_processes(launcher.find_orphans(home), grace=5.0)
        assert is_gone(ours.pid)
        assert others.poll() is None
    finally:
        for process in (ours, others):
            process.kill()
            process.wait()


def test_a_second_start_in_the_same_home_is_rejected(
    home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(launcher, "settings", lambda: Settings(home=home))
    with launcher.hold_home_lock(home) as held:
        launcher.write_running(held, "http://127.0.0.1:8000")
        assert launcher.read_running(home) == {"pid": os.getpid(), "url": "http://127.0.0.1:8000"}
        assert launcher.run_up("127.0.0.1", 0, 1) == 1
    assert f"already runs in {home}, at http://127.0.0.1:8000" in capfd.readouterr().err
    assert launcher.read_running(home) is None


def test_a_taken_port_is_reported_before_anything_starts(
    home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(launcher, "settings", lambda: Settings(home=home))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert launcher.run_up("127.0.0.1", port, 1) == 1
    assert f"port {port}: Address already in use" in capfd.readouterr().err
    assert not list((home / "logs").iterdir())


def test_an_unwritable_home_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(launcher, "settings", lambda: Settings(home=tmp_path / "file" / "home"))
    assert launcher.run_up("127.0.0.1", 0, 1) == 1
    assert "TUNEWELL_HOME cannot be written to" in capfd.readouterr().err


def test_children_get_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    here = Settings(home=Path("here"), data_dir=Path("~/data"), database_url="sqlite:///some.db")
    environment = make_child_environment(here)
    assert environment["TUNEWELL_HOME"] == str(tmp_path / "here")
    assert environment["TUNEWELL_DATA_DIR"] == str(Path("~/data").expanduser())
    assert environment["TUNEWELL_DATABASE_URL"] == f"sqlite:///{tmp_path / 'some.db'}"


def start_broker(supervisor: Supervisor, home: Path) -> tuple[Part, Path]:
    socket_path = Settings(home=home).broker_socket
    broker = make_broker_part(home, socket_path, home / "logs" / "broker.log")
    supervisor.start([broker])
    assert supervisor.wait_until(lambda: is_responding(socket_path)), broker.last_lines()
    return broker, socket_path


def test_the_broker_is_private_and_restarts_after_a_kill(supervisor: Supervisor, home: Path) -> None:
    broker, socket_path = start_broker(supervisor, home)
    assert socket_path.stat().st_mode & 0o077 == 0
    first = pid_of(broker)
    os.kill(first, signal.SIGKILL)
    assert supervisor.wait_until(lambda: pid_of_or_none(broker) not in {None, first} and is_responding(socket_path))


def pid_of_or_none(part: Part) -> int | None:
    return part.process.pid if part.process else None


def test_the_home_may_have_a_long_path_with_spaces(supervisor: Supervisor, home: Path) -> None:
    long = home / ("a long name " * 10)
    long.mkdir()
    (long / "logs").mkdir()
    broker, socket_path = start_broker(supervisor, long)
    assert not socket_path.is_relative_to(long)
    assert [process.pid for process in launcher.find_orphans(long)] == [pid_of(broker)]
    supervisor.stop()
    assert not is_responding(socket_path)


def test_an_unreadable_queue_is_moved_away(supervisor: Supervisor, home: Path) -> None:
    append_only = home / "broker" / "appendonlydir"
    append_only.mkdir(parents=True, mode=0o700)
    (append_only / "appendonly.aof.manifest").write_text("nonsense\n")
    start_broker(supervisor, home)
    assert len(list(home.glob("broker.unreadable-*"))) == 1
