"""What Celery prints becomes lines of the log."""

import logging
import os
from typing import Any

from celery import signals
from celery.apps import worker as celery_worker

from app.tuning import logs, urls
from app.tuning.settings import settings

log = logging.getLogger("tunewell.worker")


def log_celery_output() -> None:
    """Have Celery tell of its start."""
    signals.setup_logging.connect(_set_up)
    signals.celeryd_init.connect(_quieten)
    signals.celeryd_after_setup.connect(_say_what_starts)


def _set_up(**_: Any) -> None:
    logs.set_up_logging()


def _quieten(instance: Any, **_: Any) -> None:
    """A banner that cannot be written, to a full disk say, would end the worker."""
    logs.set_up_logging()
    instance.quiet = True
    celery_worker.safe_say = lambda text, *_: log.info(text)


def _say_what_starts(sender: str, instance: Any, **_: Any) -> None:
    os.environ.pop("_MP_FORK_LOGLEVEL_", None)  # by which new processes would log in a form of their own
    where = urls.describe_place(settings().broker)
    log.info("worker starts", extra={"worker": sender, "processes": instance.concurrency, "broker": where})
