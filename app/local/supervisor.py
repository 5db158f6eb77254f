"""Keeps a set of child processes alive, and ends them with everything that they have started."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from app.local import notes

QUICK_DEATH_SECONDS = 10.0  # seconds; a process that lives less than this has died at once
MAX_RESTART_PAUSE_SECONDS = 5.0  # seconds before a process that keeps dying is started again
SUPERVISE_EVERY_SECONDS = 0.1
TAIL_LINES = 12
MAX_LOG_BYTES = 20_000_000  # bytes; a longer log is put aside when its process starts
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


@dataclass(eq=False)
class Part:
    """One process to keep alive: the leader of a session and process group of its own, with a log file."""

    name: str
    command: Sequence[str]
    log: Path
    grace: float = 10.0  # seconds between SIGTERM and SIGKILL
    before_start: Callable[[int], None] = lambda quick_deaths: None
    process: "subprocess.Popen[bytes] | None" = None
    quick_deaths: int = 0
    started: float = 0.0
    restart_at: float = 0.0
    log_start: int = 0

    def start(self, environment: Mapping[str, str], folder: Path) -> None:
        self.before_start(self.quick_deaths)
        self.log.parent.mkdir(parents=True, exist_ok=True)  # somebody may have tidied up
        if self.log.exists() and self.log.stat().st_size > MAX_LOG_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))
        with self.log.open("ab") as log:
            self.log_start = log.tell()
            self.process = subprocess.Popen(
                self.command,
                env=environment,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=end_with_parent,
            )
        self.started = time.monotonic()

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def terminate(self) -> None:
        """SIGTERM to the leader alone: a Celery worker sees to its own children."""
        if self.process is not None and self.alive():
            self.process.terminate()

    def kill(self) -> None:
        """SIGKILL to whatever is left of the process group, the leader included."""
        if self.process is None:
            return
        self.process.kill()
        self.process.wait()
        kill_group(self.process.pid)
        self.process = None

    def schedule_restart(self, quick: bool) -> None:
        """Say when it may start again: at once, or a little later each time if it keeps dying quickly."""
        self.quick_deaths = self.quick_deaths + 1 if quick else 0
        pause = min(0.25 * 2**self.quick_deaths, MAX_RESTART_PAUSE_SECONDS) if self.quick_deaths > 1 else 0.0
        self.restart_at = time.monotonic() + pause

    def last_lines(self) -> str:
        """The end of what this process has written, indented."""
        try:
            with self.log.open("rb") as log:
                log.seek(max(self.log_start, log.seek(0, os.SEEK_END) - 10_000))
                lines = log.read().decode(errors="replace").splitlines()
        except OSError as error:
            lines = [f"it cannot be read ({error.strerror})"]
        return "\n".join(f"    {line}" for line in lines[-TAIL_LINES:])


@dataclass
class Supervisor:
    """Starts parts stage by stage, restarts what dies, and stops the stages in the opposite order."""

    environment: Mapping[str, str]
    folder: Path
    say: Callable[[str], None] = notes.write_note
    stages: list[list[Part]] = field(default_factory=list)
    signals: int = 0

    def handle_signals(self) -> None:
        """Take SIGINT and SIGTERM as the wish to stop; a second one stops without patience."""
        signal.signal(signal.SIGINT, self._on_signal)
        signal.signal(signal.SIGTERM, self._on_signal)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as under nohup
            signal.signal(signal.SIGHUP, self._on_signal)

    def start(self, parts: Iterable[Part]) -> None:
        """Start parts side by side, as one stage."""
        stage: list[Part] = []
        self.stages.append(stage)
        for part in parts:
            stage.append(part)
            self._start(part)

    def tick(self) -> None:
        """Start again whatever has died; what dies at once has to wait a little longer each time."""
        now = time.monotonic()
        for part in (part for stage in self.stages for part in stage):
            if part.process is not None and not part.alive():
                self._handle_death(part, now)
            if part.process is None and now >= part.restart_at:
                self._start(part)

    def wait_until(self, done: Callable[[], bool]) -> bool:
        """Supervise until `done()`; False when asked to stop, or when a part never gets on its feet."""
        while not self.signals:
            if done():
                return True
            self.tick()
            if any(part.quick_deaths >= 3 for stage in self.stages for part in stage):
                return False
            time.sleep(SUPERVISE_EVERY_SECONDS)
        return False

    def run(self) -> None:
        """Supervise until asked to stop."""
        while not self.signals:
            self.tick()
            time.sleep(SUPERVISE_EVERY_SECONDS)

    def stop(self) -> None:
        """End every part and whatever it has started: SIGTERM, some patience, SIGKILL."""
        while self.stages:
            stage = self.stages.pop()
            for part in stage:
                part.terminate()
            asked, signals = time.monotonic(), self.signals
            for part in stage:
                while part.alive() and self.signals == signals and time.monotonic() - asked < part.grace:
                    time.sleep(SUPERVISE_EVERY_SECONDS)
                if part.alive():
                    self.say(f"{part.name} does not end by itself; killing it")
                part.kill()

    def _start(self, part: Part) -> None:
        try:
            part.start(self.environment, self.folder)
        except OSError as error:  # no memory, no disk, no such program: it may pass
            part.schedule_restart(quick=True)
            self.say(f"{part.name} cannot be started ({error}); trying again")

    def _handle_death(self, part: Part, now: float) -> None:
        code = part.process.returncode if part.process else 0
        part.kill()
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        part.schedule_restart(quick=now - part.started < QUICK_DEATH_SECONDS)
        self.say(f"{part.name} {how}; starting it again")
        if part.quick_deaths == 1 and code != -signal.SIGKILL:  # a kill from outside leaves no reason in the log
            self.say(f"The end of {part.log}:\n{part.last_lines()}")

    def _on_signal(self, number: int, frame: object) -> None:
        self.signals += 1


def kill_group(group: int) -> None:
    """SIGKILL to every process of a group, and the moment that it takes them to be gone."""
    with suppress(ProcessLookupError, PermissionError):  # no such group; macOS says the latter of zombies
        os.killpg(group, signal.SIGKILL)
        for _ in range(50):
            os.killpg(group, 0)
            time.sleep(0.02)


def end_with_parent() -> None:
    """In the child: have the kernel send SIGTERM when the supervisor dies, even by SIGKILL. Linux only."""
    if LIBC is not None:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
