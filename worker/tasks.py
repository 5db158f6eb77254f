"""The Celery worker: one task, which trains fits for as long as there are any."""

import faulthandler
import logging
import os
import signal
from functools import lru_cache
from typing import Any

from billiard import active_children
from celery import Task, signals
from sqlalchemy import Engine

from app.tuning import broker, claims, logs
from app.tuning.broker import celery as app
from app.tuning.database import connect, reading, writing
from app.tuning.migrations import migrate
from app.tuning.settings import settings
from worker import fits, loss

FITS_PER_MESSAGE = 50  # then the message is passed on, so that Celery can replace a process that has grown
HANG_SECONDS = 30.0  # beyond the time within which training wanted to report
log = logging.getLogger("tunewell.worker")

app.conf.update(
    worker_pool="prefork",
    worker_pool_start_method="spawn",  # TensorFlow hangs after a fork
    worker_proc_alive_timeout=120.0,
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

    def ask_to_stop(self, *_: Any) -> None:
        """Give the fit back at the next report."""
        self._stopping = True

    def stopping(self) -> bool:
        return self._stopping

    def watch(self, within: float) -> None:
        # A thread in C: it needs no interpreter lock, so that it ends what hangs while holding it.
        faulthandler.dump_traceback_later(within + HANG_SECONDS, exit=True, file=2)

    def rest(self) -> None:
        faulthandler.cancel_dump_traceback_later()


process = TrainingProcess()


@lru_cache(maxsize=1)
def engine() -> Engine:
    """This process's connections, on the newest schema."""
    made = connect(settings().database)
    migrate(made)
    return made


@app.task(name=broker.TASK, bind=True)  # type: ignore[untyped-decorator]
def run_next_fit(self: Task) -> None:
    """Train the next fit, and the next, until no job has any."""
    from worker.folds import train  # TensorFlow comes in here: in the child, on first use

    for _ in range(FITS_PER_MESSAGE):
        if process.stopping() or not fits.run_next(engine(), train, self.request.hostname, self.request.id, process):
            break
    pass_on()


def pass_on() -> None:
    """Wake another worker if there is more to claim; should that fail, house-keeping will."""
    with reading(engine()) as session:
        more = claims.claimable(session)
    if more:
        try:
            broker.wake(1)
        except broker.BrokerError as error:
            log.warning("wake not sent", extra={"reason": type(error).__name__})


@signals.setup_logging.connect  # type: ignore[untyped-decorator]
def _set_up_logging(**_: Any) -> None:
    logs.set_up()


@signals.worker_process_init.connect  # type: ignore[untyped-decorator]
def _listen_for_the_stop(**_: Any) -> None:
    signal.signal(signal.SIGUSR2, process.ask_to_stop)


@signals.worker_shutting_down.connect  # type: ignore[untyped-decorator]
def _ask_children_to_stop(**_: Any) -> None:
    for child in active_children():
        os.kill(child.pid, signal.SIGUSR2)


@signals.task_failure.connect  # type: ignore[untyped-decorator]
def _note_the_loss(sender: Any, task_id: str, exception: BaseException, **_: Any) -> None:
    """In the worker's main process: a training process has died with a fit in its hands."""
    reason = loss.reason(exception)
    if reason is None:
        return
    outcome, error = reason
    with writing(engine()) as session:
        put_back = claims.died(session, task_id, sender.request.hostname, outcome, error)
    log.warning("training process died", extra={"outcome": str(outcome), "put_back": put_back})
    pass_on()
