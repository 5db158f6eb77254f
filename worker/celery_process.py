"""A worker's processes: how they run fits, are watched and stopped, and what is recorded when one dies."""

import faulthandler
import logging
import os
import secrets
import signal
import sys
import threading
import time
import warnings
from functools import lru_cache
from typing import Any

from billiard import active_children
from celery import Task, signals
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from app.tuning import broker
from app.tuning.broker import celery
from app.tuning.database import connect, reading
from app.tuning.jobs import claims
from app.tuning.jobs.attempts import ErrorRecord, Lost
from app.tuning.jobs.tables import Outcome
from app.tuning.migrations import migrate
from app.tuning.outages import AWAY
from app.tuning.settings import settings
from worker import celery_output, datasets, process_death, runner
from worker.consumer_watchdog import ConsumerWatchdog
from worker.hints import HintSender
from worker.retries import Interrupted, retry_until_done

FITS_PER_MESSAGE = 50  # then the task ends, so that Celery can replace a process that has grown
PAUSE_SECONDS = 1.0  # of a process that receives wakes though only other workers can claim what is queued
INSTANCE = "TUNEWELL_WORKER_INSTANCE"  # environment variable that a worker's processes inherit
HANG_SECONDS = 30.0  # that a report may be late before the process counts as hung
log = logging.getLogger("tunewell.worker")

celery.conf.update(
    worker_pool="prefork",
    worker_pool_start_method="spawn",  # TensorFlow hangs after a fork
    worker_proc_alive_timeout=120.0,
    worker_lost_wait=1.0,  # seconds until a dead process is replaced and its fit requeued; the default is 10
    worker_disable_prefetch=True,  # a busy worker must not hold a wake that an idle one could use
    worker_prefetch_multiplier=1,
    worker_max_memory_per_child=2_000_000,  # KiB
    worker_cancel_long_running_tasks_on_connection_loss=False,
    worker_hijack_root_logger=False,
    worker_redirect_stdouts=False,
    worker_send_task_events=False,
)


class TrainingProcess:
    """The process that runs training: it can be asked to stop, and it is killed if it hangs."""

    def __init__(self) -> None:
        self._stopping = False
        self._parent = os.getppid()

    def ask_to_stop(self, *_: Any) -> None:
        """Release the fit at its next report."""
        self._stopping = True

    def stopping(self) -> bool:
        # Only on Linux does Celery have the kernel kill orphans; elsewhere they have to notice.
        return self._stopping or os.getppid() != self._parent

    def watch(self, within: float) -> None:
        # A thread in C, without the interpreter lock: it also ends a process that hangs while holding the lock.
        faulthandler.dump_traceback_later(within + HANG_SECONDS, exit=True, file=2)

    def rest(self) -> None:
        faulthandler.cancel_dump_traceback_later()

    def pause(self, seconds: float) -> None:
        """Sleep, but stop sleeping when asked to stop."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and not self.stopping():
            time.sleep(0.05)


celery_output.log_celery_output()
process = TrainingProcess()
hints = HintSender()


@lru_cache(maxsize=1)
def get_worker_engine() -> Engine:
    """This process's engine with a single connection; the schema is migrated first."""
    made = connect(settings().database, connections=1)
    migrate(made)
    return made


def make_worker_name(node: str) -> str:
    """A worker's name in the database, unique even if two workers run under one node name."""
    return f"{node}#{os.environ[INSTANCE]}"


def run_task(task: Task, train: runner.TrainFit) -> None:
    """Train fits until none is left or the message's share is done."""
    worker, message_id = make_worker_name(task.request.hostname), task.request.id
    try:
        database = retry_until_done(get_worker_engine, process.stopping)
        runner.run_fits(database, train, worker, message_id, process, FITS_PER_MESSAGE, hints.send_soon)
        if pass_wake_on(worker):
            process.pause(PAUSE_SECONDS)
    except Interrupted:
        log.warning("stopped while the database was away")
    except MemoryError as error:  # between two fits; Celery's main process would end over a MemoryError
        raise RuntimeError("out of memory") from error


def pass_wake_on(worker: str) -> bool:
    """Wake another worker if more can be claimed; if that fails, housekeeping does so later.

    Returns whether only other workers can claim it: then this one should pause and leave the wakes to them.
    """
    try:
        with reading(get_worker_engine()) as session:
            more = claims.list_claimable(session)
            mine = claims.list_claimable(session, worker) if more else []
        if more:
            broker.send_wakes(1)
        return bool(more) and not mine
    except (*AWAY, *broker.BrokerError) as error:
        log.warning("wake not sent", extra={"reason": type(error).__name__})
        return False


@signals.celeryd_init.connect  # type: ignore[untyped-decorator]
@signals.worker_process_init.connect  # type: ignore[untyped-decorator]
def _keep_warnings_from_raising(**_: Any) -> None:
    """PYTHONWARNINGS=error would turn a warning in training into a failed fit."""
    if any(option.startswith("error") for option in sys.warnoptions):
        warnings.simplefilter("default")


@signals.celeryd_init.connect  # type: ignore[untyped-decorator]
def _make_instance_id(**_: Any) -> None:
    os.environ[INSTANCE] = secrets.token_hex(4)


@signals.worker_process_init.connect  # type: ignore[untyped-decorator]
def _handle_stop_signal(**_: Any) -> None:
    signal.signal(signal.SIGUSR2, process.ask_to_stop)


@signals.worker_init.connect  # type: ignore[untyped-decorator]
def _start_watchdog(sender: Any, **_: Any) -> None:
    """As early as possible: a worker that is starting counts as present."""
    sender.watchdog = ConsumerWatchdog(get_worker_engine, make_worker_name(sender.hostname))
    sender.watchdog.start()


@signals.worker_ready.connect  # type: ignore[untyped-decorator]
def _arm_watchdog(sender: Any, **_: Any) -> None:
    sender.controller.watchdog.processes = sender.pool.num_processes
    datasets.warn_if_mnist_is_missing()


@signals.worker_shutting_down.connect  # type: ignore[untyped-decorator]
def _ask_children_to_stop(**_: Any) -> None:
    for child in active_children():
        os.kill(child.pid, signal.SIGUSR2)


@signals.task_failure.connect  # type: ignore[untyped-decorator]
def _handle_process_death(sender: Any, task_id: str, exception: BaseException, **_: Any) -> None:
    """Runs in the worker's main process when a training process has died during a task."""
    if reason := process_death.explain_death(exception):
        # In a thread, because the database may be away and this one serves the broker and the other processes.
        threading.Thread(
            target=_record_death, args=(task_id, make_worker_name(sender.request.hostname), *reason), daemon=True
        ).start()


def _record_death(message_id: str, worker: str, outcome: Outcome, error: ErrorRecord) -> None:
    lost = Lost(outcome, error, resting_worker=worker)

    def record(session: Session) -> bool:
        return claims.record_process_death(session, message_id, worker, lost)

    requeued = runner.commit_with_retries(get_worker_engine(), record)
    log.warning("training process died", extra={"outcome": str(outcome), "requeued": requeued})
    pass_wake_on(worker)
