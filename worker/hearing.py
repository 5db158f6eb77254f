"""Notices that this worker hears nothing although wakes wait for it, and starts it anew.

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

from app.tuning import broker, claims, failures
from app.tuning.database import reading, try_writing

PERIOD_SECONDS = 5.0
DEAF_CHECKS = 4  # in a row: a worker that hears takes a waiting wake within milliseconds
LOST_CHECKS = 24  # if Celery believes that all processes are busy: one may be importing TensorFlow, or hang
GRACE_SECONDS = 3.0
log = logging.getLogger("tunewell.worker")


class Hearing(threading.Thread):
    """Watches, in the worker's main process, whether wakes and fits wait that this worker could take."""

    def __init__(self, engine: Callable[[], Engine], worker: str, processes: int) -> None:
        super().__init__(name="hearing", daemon=True)
        self._engine, self._worker, self._processes = engine, worker, processes

    def run(self) -> None:
        try:
            self._engine()
        except SQLAlchemyError as error:
            log.warning("database away", extra={"reason": failures.reason(error)})
        deaf = 0
        while state.should_stop is None and state.should_terminate is None:
            time.sleep(PERIOD_SECONDS)
            deaf = deaf + 1 if self._misses_work() else 0
            if deaf >= (DEAF_CHECKS if len(state.reserved_requests) < self._processes else LOST_CHECKS):
                log.error("wakes wait and this worker does not hear them: starting it anew")
                begin_again([child.pid for child in active_children()])

    def _misses_work(self) -> bool:
        try:
            if not broker.waiting():
                return False
            try_writing(self._engine())
            with reading(self._engine()) as session:
                return bool(claims.claimable(session)) and claims.held(session, self._worker) < self._processes
        except (SQLAlchemyError, *broker.BrokerError):
            return False  # without broker, or a database that can be written, there is nothing to miss


def begin_again(children: Iterable[int]) -> None:
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
