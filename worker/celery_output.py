"""Turns what Celery prints into log records."""

import logging
import os
from typing import Any

from celery import signals
from celery.apps import worker as celery_worker

from app.tuning import logs, urls
from app.tuning.settings import settings

log = logging.getLogger("tunewell.worker")


def log_celery_output() -> None:
    """Connect Celery's start-up to the log."""
    signals.setup_logging.connect(_set_up)
    signals.celeryd_init.connect(_silence_banner)
    signals.celeryd_after_setup.connect(_log_start)


def _set_up(**_: Any) -> None:
    logs.set_up_logging()


def _silence_banner(instance: Any, **_: Any) -> None:
    """A failing write of the banner, to a full disk for instance, would end the worker."""
    logs.set_up_logging()
    instance.quiet = True
    celery_worker.safe_say = lambda text, *_: log.info(text)


def _log_start(sender: str, instance: Any, **_: Any) -> None:
    os.environ.pop("_MP_FORK_LOGLEVEL_", None)  # with it, billiard's new processes would log in their own format
    where = urls.describe_place(settings().broker)
    log.info("worker starts", extra={"worker": sender, "processes": instance.concurrency, "broker": where})
