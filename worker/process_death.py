"""Why a training process died, as far as its parent can tell."""

import re
from pathlib import Path

from billiard.exceptions import WorkerLostError

from app.tuning.jobs.claims import Error
from app.tuning.jobs.tables import Outcome

WATCHDOG_EXIT = 1  # what faulthandler's watchdog exits with
KERNEL_COUNTS = (Path("/sys/fs/cgroup/memory.events"), Path("/proc/vmstat"))


class OutOfMemoryKills:
    """The kernel's count of processes that it killed for want of memory, in this container or on this machine."""

    def __init__(self) -> None:
        self._seen = self._count()

    def grew(self) -> bool:
        """Whether it has risen since it was last asked for."""
        seen, self._seen = self._seen, self._count()
        return self._seen > seen

    @staticmethod
    def _count() -> int:
        for file in KERNEL_COUNTS:
            if file.exists() and (found := re.search(r"^oom_kill (\d+)$", file.read_text(), re.MULTILINE)):
                return int(found[1])
        return 0


kills = OutOfMemoryKills()


def explain_death(exception: BaseException) -> tuple[Outcome, Error] | None:
    """What became of the process, and how to tell it; None if it has not died."""
    if not isinstance(exception, WorkerLostError):
        return None
    how = str(exception).removeprefix("Worker exited prematurely: ").partition(" Job:")[0]
    if how == f"exitcode {WATCHDOG_EXIT}":
        return Outcome.HUNG, _error("TrainingHung", "training made no progress; its stacks are in the worker's log")
    if "signal 9" in how and kills.grew():
        return Outcome.OUT_OF_MEMORY, _error("OutOfMemory", "the kernel killed the training process for want of memory")
    return Outcome.LOST, _error("TrainingProcessDied", f"the training process died: {how}")


def _error(kind: str, message: str) -> Error:
    return {"type": kind, "message": message, "traceback": None}
