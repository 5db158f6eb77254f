"""The worker's processes: how they work, how they are watched and asked to stop, and what is noted when one dies."""

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
from app.tuning.database import AWAY, connect, reading
from app.tuning.jobs import claims, workers
from app.tuning.jobs.tables import Outcome
from app.tuning.migrations import migrate
from app.tuning.settings import settings
from worker import celery_output, datasets, process_death, runner
from worker.consumer_watchdog import ConsumerWatchdog
from worker.retries import Interrupted, retry_until_done

FITS_PER_MESSAGE = 50  # then the message is passed on, so that Celery can replace a process that has grown
PAUSE_SECONDS = 1.0  # of a process that wakes reach though all that waits is for other workers
INSTANCE = "TUNEWELL_WORKER_INSTANCE"  # in the environment of a worker's processes
HANG_SECONDS = 30.0  # beyond the time within which training wanted to report
log = logging.getLogger("tunewell.worker")

celery.conf.update(
    worker_pool="prefork",
    worker_pool_start_method="spawn",  # TensorFlow hangs after a fork
    worker_proc_alive_timeout=120.0,
    worker_lost_wait=1.0,  # a dead process's fit is put back, and its place filled, after this instead of 10 s
    worker_disable_prefetch=True,  # a busy worker holds no wake that an idle one could use
    worker_prefetch_multiplier=1,
    worker_max_memory_per_child=2_000_000,  # KiB
    worker_cancel_long_running_tasks_on_connection_loss=False,
    worker_hijack_root_logger=False,
    worker_redirect_stdouts=False,
    worker_send_task_events=False,
)


class TrainingProcess:
    """This process as training sees it: it may be asked to stop, and it is killed if it hangs."""

    def __init__(self) -> None:
        self._stopping = False
        self._parent = os.getppid()

    def ask_to_stop(self, *_: Any) -> None:
        """Give the fit back at the next report."""
        self._stopping = True

    def stopping(self) -> bool:
        # Where the kernel does not end orphans (Linux does, by Celery's wish), they end themselves.
        return self._stopping or os.getppid() != self._parent

    def watch(self, within: float) -> None:
        # A thread in C: it needs no interpreter lock, so that it ends what hangs while holding it.
        faulthandler.dump_traceback_later(within + HANG_SECONDS, exit=True, file=2)

    def rest(self) -> None:
        faulthandler.cancel_dump_traceback_later()

    def pause(self, seconds: float) -> None:
        """Wait, but for no longer than until it is asked to stop."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and not self.stopping():
            time.sleep(0.05)


celery_output.log_celery_output()
process = TrainingProcess()


@lru_cache(maxsize=1)
def get_worker_engine() -> Engine:
    """This process's connection, on the newest schema; one, so that a worker holds one more than it has processes."""
    made = connect(settings().database, connections=1)
    migrate(made)
    return made


def identity(node: str) -> str:
    """A worker's name in the database: two that were started under one node name must not answer for each other."""
    return f"{node}#{os.environ[INSTANCE]}"


def run_task(task: Task, train: runner.TrainFit) -> None:
    """Train the next fit, and the next, until no job has any."""
    worker, message_id = identity(task.request.hostname), task.request.id
    try:
        database = retry_until_done(get_worker_engine, process.stopping)
        runner.run_fits(database, train, worker, message_id, process, FITS_PER_MESSAGE)
        if pass_wake_on(worker):
            process.pause(PAUSE_SECONDS)
    except Interrupted:
        log.warning("stopped while the database was away")
    except MemoryError as error:  # between two fits; under its own name it would end Celery's main process
        raise RuntimeError("out of memory") from error


def pass_wake_on(worker: str) -> bool:
    """Wake another worker if there is more to claim; should that fail, house-keeping will.

    True if none of it is for this worker, which then has to leave the wakes to others for a moment.
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
def _let_no_warning_raise(**_: Any) -> None:
    """As PYTHONWARNINGS may ask for; in a training process it would be taken for what the hyperparameters did."""
    if any(option.startswith("error") for option in sys.warnoptions):
        warnings.simplefilter("default")


@signals.celeryd_init.connect  # type: ignore[untyped-decorator]
def _be_told_apart(**_: Any) -> None:
    os.environ[INSTANCE] = secrets.token_hex(4)  # which the training processes inherit


@signals.worker_process_init.connect  # type: ignore[untyped-decorator]
def _listen_for_the_stop(**_: Any) -> None:
    signal.signal(signal.SIGUSR2, process.ask_to_stop)


@signals.worker_init.connect  # type: ignore[untyped-decorator]
def _note_presence(sender: Any, **_: Any) -> None:
    """As early as can be: nobody is to think that there is no such worker while it starts."""
    sender.hearing = ConsumerWatchdog(get_worker_engine, identity(sender.hostname))
    sender.hearing.start()


@signals.worker_ready.connect  # type: ignore[untyped-decorator]
def _watch_the_hearing(sender: Any, **_: Any) -> None:
    sender.controller.hearing.processes = sender.pool.num_processes
    datasets.warn_if_mnist_is_missing()


@signals.worker_shutting_down.connect  # type: ignore[untyped-decorator]
def _ask_children_to_stop(**_: Any) -> None:
    for child in active_children():
        os.kill(child.pid, signal.SIGUSR2)


@signals.task_failure.connect  # type: ignore[untyped-decorator]
def _note_the_loss(sender: Any, task_id: str, exception: BaseException, **_: Any) -> None:
    """In the worker's main process: a training process has died with a fit in its hands."""
    if reason := process_death.explain_death(exception):
        # Not in this thread, which serves the broker and the other processes: the database may be away.
        threading.Thread(
            target=_record_loss, args=(task_id, identity(sender.request.hostname), *reason), daemon=True
        ).start()


def _record_loss(message_id: str, worker: str, outcome: Outcome, error: claims.Error) -> None:
    def put_back_and_rest(session: Session) -> bool:
        put_back = claims.record_process_death(session, message_id, worker, outcome, error)
        workers.rest_worker(session, worker)
        return put_back

    put_back = runner.record_with_retries(get_worker_engine(), put_back_and_rest)
    log.warning("training process died", extra={"outcome": str(outcome), "put_back": put_back})
    pass_wake_on(worker)
