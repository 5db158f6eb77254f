"""Notes that this worker is there; notices that it hears nothing although wakes wait, and starts it anew.

Celery's consumer can stop taking messages for good after trouble with the broker (celery#10205).
"""

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

from billiard import active_children
from celery.worker import state
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from app.tuning import broker, outages
from app.tuning.database import reading, try_writing, writing
from app.tuning.jobs import claims, workers

CHECK_EVERY_SECONDS = 5.0
DEAF_CHECKS = 4  # in a row: a worker that hears takes a waiting wake within milliseconds
LOST_CHECKS = 24  # if Celery believes that all processes are busy: one may be importing TensorFlow, or hang
GRACE_SECONDS = 3.0
log = logging.getLogger("tunewell.worker")


class ConsumerWatchdog(threading.Thread):
    """Notes every few seconds, in the worker's main process, that it is there, and watches whether it hears."""

    def __init__(self, engine: Callable[[], Engine], worker: str) -> None:
        super().__init__(name="hearing", daemon=True)
        self._engine, self._worker = engine, worker
        self._trouble = ""
        self.processes = 0  # none, until they are ready to hear

    def run(self) -> None:
        deaf = 0
        while state.should_stop is None and state.should_terminate is None:
            self._be_seen()
            time.sleep(CHECK_EVERY_SECONDS)
            deaf = deaf + 1 if self.processes and self._misses_work() else 0
            if deaf >= (DEAF_CHECKS if len(state.reserved_requests) < self.processes else LOST_CHECKS):
                log.error("wakes wait and this worker does not hear them: starting it anew")
                restart_worker([child.pid for child in active_children()])

    def _be_seen(self) -> None:
        trouble = ""
        try:
            with writing(self._engine()) as session:
                workers.note_presence(session, self._worker)
        except SQLAlchemyError as error:
            trouble = outages.explain_failure(error)
        except Exception as error:  # whatever it is, the next time may be better
            trouble = f"{type(error).__name__}: {error}"
        if trouble and trouble != self._trouble:
            log.warning("database away", extra={"reason": trouble})
        self._trouble = trouble

    def _misses_work(self) -> bool:
        try:
            if not broker.count_waiting_wakes():
                return False
            try_writing(self._engine())
            with reading(self._engine()) as session:
                mine = claims.list_claimable(session, self._worker)
                return bool(mine) and claims.count_held(session, self._worker) < self.processes
        except (SQLAlchemyError, *broker.BrokerError):
            return False  # without broker, or a database that can be written, there is nothing to miss


def restart_worker(children: Iterable[int]) -> None:
    """Replace this process by a new one of the same command; what its children train is given back."""
    with suppress(ProcessLookupError):
        for child in children:
            os.kill(child, signal.SIGUSR2)
    time.sleep(GRACE_SECONDS)
    for child in children:
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
