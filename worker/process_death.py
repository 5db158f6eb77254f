"""Explains why a training process died, as far as its parent process can tell."""

import re
from collections.abc import Sequence
from pathlib import Path

from billiard.exceptions import WorkerLostError

from app.tuning.jobs.attempts import ErrorRecord
from app.tuning.jobs.tables import Outcome

WATCHDOG_EXIT_CODE = 1  # of faulthandler.dump_traceback_later
KERNEL_COUNTS = (Path("/sys/fs/cgroup/memory.events"), Path("/proc/vmstat"))


class OutOfMemoryKills:
    """The kernel's count of its out-of-memory kills: in this container, else on this machine."""

    def __init__(self, files: Sequence[Path] = KERNEL_COUNTS) -> None:
        self._files = files
        self._seen = self._read_count()

    def has_risen(self) -> bool:
        """Whether the count is higher than at the last call."""
        seen, self._seen = self._seen, self._read_count()
        return self._seen > seen

    def _read_count(self) -> int:
        for file in self._files:
            if file.exists() and (found := re.search(r"^oom_kill (\d+)$", file.read_text(), re.MULTILINE)):
                return int(found[1])
        return 0


kills_so_far = OutOfMemoryKills()


def explain_death(
    exception: BaseException, kills: OutOfMemoryKills = kills_so_far
) -> tuple[Outcome, ErrorRecord] | None:
    """The attempt's outcome and the error to store; None if the exception is not a process's death."""
    if not isinstance(exception, WorkerLostError):
        return None
    how = str(exception).removeprefix("Worker exited prematurely: ").partition(" Job:")[0]
    if how == f"exitcode {WATCHDOG_EXIT_CODE}":
        message = "training made no progress; its stack traces are in the worker's log"
        return Outcome.HUNG, _make_error("TrainingHung", message)
    if "signal 9" in how and kills.has_risen():
        message = "the kernel killed the training process because memory ran out"
        return Outcome.OUT_OF_MEMORY, _make_error("OutOfMemory", message)
    return Outcome.LOST, _make_error("TrainingProcessDied", f"the training process died: {how}")


def _make_error(kind: str, message: str) -> ErrorRecord:
    return {"type": kind, "message": message, "traceback": None}
