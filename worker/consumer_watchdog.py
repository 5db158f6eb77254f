"""Records that this worker is present, and restarts it if its Celery consumer has stopped receiving messages.

After trouble with the broker, Celery's consumer can stop receiving for good (celery#10205).
"""

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from billiard import active_children
from celery.worker import state
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from app.tuning import broker, outages
from app.tuning.database import reading, try_writing, writing
from app.tuning.jobs import claims, workers
from worker.processor import name_device

CHECK_EVERY_SECONDS = 5.0
MISSED_CHECKS = 4  # in a row: a healthy worker takes a waiting wake within milliseconds
MISSED_CHECKS_WHEN_BUSY = 24  # if Celery believes that all processes are busy: one may be importing TensorFlow, or hang
GRACE_SECONDS = 3.0
log = logging.getLogger("tunewell.worker")


def restart_worker() -> None:
    """Replace this process by a new one of the same command; its training processes release their fits first."""
    children = [child.pid for child in active_children()]
    with suppress(ProcessLookupError):
        for child in children:
            os.kill(child, signal.SIGUSR2)
    time.sleep(GRACE_SECONDS)
    for child in children:
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


class ConsumerWatchdog(threading.Thread):
    """Runs in the worker's main process: records its presence and checks its consumer every few seconds."""

    def __init__(
        self,
        engine: Callable[[], Engine],
        worker: str,
        count_wakes: Callable[[], int] = broker.count_waiting_wakes,
        restart: Callable[[], None] = restart_worker,
    ) -> None:
        super().__init__(name="consumer-watchdog", daemon=True)
        self._engine, self._worker = engine, worker
        self._count_wakes, self._restart = count_wakes, restart
        self._trouble = ""
        self._missed = 0
        self.processes = 0  # until they are ready to receive

    def run(self) -> None:
        while state.should_stop is None and state.should_terminate is None:
            self._record_presence()
            time.sleep(CHECK_EVERY_SECONDS)
            self.check(busy=len(state.reserved_requests) >= self.processes)

    def check(self, busy: bool) -> None:
        """Restart the worker if it has missed work at enough checks in a row.

        `busy` says that Celery believes every process to have a task.
        """
        self._missed = self._missed + 1 if self.processes and self._misses_work() else 0
        if self._missed >= (MISSED_CHECKS_WHEN_BUSY if busy else MISSED_CHECKS):
            log.error("wakes are waiting but this worker does not receive them: restarting it")
            self._restart()

    def _record_presence(self) -> None:
        trouble = ""
        try:
            with writing(self._engine()) as session:
                workers.note_presence(session, self._worker, name_device())
        except SQLAlchemyError as error:
            trouble = outages.explain_failure(error)
        except Exception as error:  # this thread must not end
            trouble = f"{type(error).__name__}: {error}"
        if trouble and trouble != self._trouble:
            log.warning("database away", extra={"reason": trouble})
        self._trouble = trouble

    def _misses_work(self) -> bool:
        try:
            if not self._count_wakes():
                return False
            try_writing(self._engine())
            with reading(self._engine()) as session:
                mine = claims.list_claimable(session, self._worker)
                return bool(mine) and claims.count_held(session, self._worker) < self.processes
        except (SQLAlchemyError, *broker.BrokerError):
            return False  # without a broker, or a database that takes writes, no work can be missed
