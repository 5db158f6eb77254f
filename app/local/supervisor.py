"""Keeps child processes alive, and ends them together with their descendants."""

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

QUICK_DEATH_SECONDS = 10.0  # a process that ends sooner has failed to start
MAX_RESTART_PAUSE_SECONDS = 5.0
SUPERVISE_EVERY_SECONDS = 0.1
TAIL_LINES = 12
MAX_LOG_BYTES = 20_000_000  # a larger log is rotated when its process starts
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


@dataclass(eq=False)
class Part:
    """One supervised process: the leader of its own session and process group, with a log file."""

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
        self.log.parent.mkdir(parents=True, exist_ok=True)  # it may have been deleted
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
        """Send SIGTERM to the leader only: a Celery worker stops its own children."""
        if self.process is not None and self.alive():
            self.process.terminate()

    def kill(self) -> None:
        """Send SIGKILL to what is left of the process group."""
        if self.process is None:
            return
        self.process.kill()
        self.process.wait()
        kill_group(self.process.pid)
        self.process = None

    def schedule_restart(self, quick: bool) -> None:
        """Set the time of the restart: at once, or after a growing pause if the process keeps failing to start."""
        self.quick_deaths = self.quick_deaths + 1 if quick else 0
        pause = min(0.25 * 2**self.quick_deaths, MAX_RESTART_PAUSE_SECONDS) if self.quick_deaths > 1 else 0.0
        self.restart_at = time.monotonic() + pause

    def last_lines(self) -> str:
        """The end of this process's log, indented."""
        try:
            with self.log.open("rb") as log:
                log.seek(max(self.log_start, log.seek(0, os.SEEK_END) - 10_000))
                lines = log.read().decode(errors="replace").splitlines()
        except OSError as error:
            lines = [f"it cannot be read ({error.strerror})"]
        return "\n".join(f"    {line}" for line in lines[-TAIL_LINES:])


@dataclass
class Supervisor:
    """Starts parts in stages, restarts those that die, and stops the stages in reverse order."""

    environment: Mapping[str, str]
    folder: Path
    say: Callable[[str], None] = notes.write_note
    stages: list[list[Part]] = field(default_factory=list)
    signals: int = 0

    def handle_signals(self) -> None:
        """Stop on SIGINT, SIGTERM or SIGHUP; a second signal skips the grace periods."""
        signal.signal(signal.SIGINT, self._on_signal)
        signal.signal(signal.SIGTERM, self._on_signal)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as under nohup
            signal.signal(signal.SIGHUP, self._on_signal)

    def start(self, parts: Iterable[Part]) -> None:
        """Start parts as one stage."""
        stage: list[Part] = []
        self.stages.append(stage)
        for part in parts:
            stage.append(part)
            self._start(part)

    def tick(self) -> None:
        """Restart the parts that have died and whose pause is over."""
        now = time.monotonic()
        for part in (part for stage in self.stages for part in stage):
            if part.process is not None and not part.alive():
                self._handle_death(part, now)
            if part.process is None and now >= part.restart_at:
                self._start(part)

    def wait_until(self, done: Callable[[], bool]) -> bool:
        """Supervise until `done()`; False if asked to stop, or if a part repeatedly fails to start."""
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
        """End every part and its descendants: SIGTERM, a grace period, SIGKILL."""
        while self.stages:
            stage = self.stages.pop()
            for part in stage:
                part.terminate()
            asked, signals = time.monotonic(), self.signals
            for part in stage:
                while part.alive() and self.signals == signals and time.monotonic() - asked < part.grace:
                    time.sleep(SUPERVISE_EVERY_SECONDS)
                if part.alive():
                    self.say(f"{part.name} does not stop; killing it")
                part.kill()

    def _start(self, part: Part) -> None:
        try:
            part.start(self.environment, self.folder)
        except OSError as error:  # no memory, disk or program: possibly temporary
            part.schedule_restart(quick=True)
            self.say(f"{part.name} cannot be started ({error}); retrying")

    def _handle_death(self, part: Part, now: float) -> None:
        code = part.process.returncode if part.process else 0
        part.kill()
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        part.schedule_restart(quick=now - part.started < QUICK_DEATH_SECONDS)
        self.say(f"{part.name} {how}; restarting it")
        if part.quick_deaths == 1 and code != -signal.SIGKILL:  # after SIGKILL the log holds no reason
            self.say(f"The end of {part.log}:\n{part.last_lines()}")

    def _on_signal(self, number: int, frame: object) -> None:
        self.signals += 1


def kill_group(group: int) -> None:
    """Send SIGKILL to a process group, and wait up to a second until it is gone."""
    with suppress(ProcessLookupError, PermissionError):  # no such group; macOS raises the latter for zombies
        os.killpg(group, signal.SIGKILL)
        for _ in range(50):
            os.killpg(group, 0)
            time.sleep(0.02)


def end_with_parent() -> None:
    """In the child: have the kernel send SIGTERM when the parent dies, even by SIGKILL. Linux only."""
    if LIBC is not None:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
