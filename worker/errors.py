"""Why training stops without a result, and how an exception is stored."""

import math
import traceback
from typing import Any

from app.tuning.jobs.attempts import ErrorRecord

MAX_MESSAGE_BYTES, MAX_TRACEBACK_BYTES = 1024, 2800  # so that an error stays below 4 KiB


class TrainingStopped(Exception):
    """Training is to end without a result."""


class JobCancelled(TrainingStopped):
    """The job is being cancelled."""


class JobPaused(TrainingStopped):
    """The job is paused: the fit is trained when it goes on."""


class LeaseLost(TrainingStopped):
    """The lease ran out, and the fit was given to another worker or closed."""


class WorkerStopping(TrainingStopped):
    """The worker was asked to stop: another one will train the fit."""


class TimedOut(Exception):
    """The fit took longer than its job allows."""


class DatasetUnavailable(Exception):
    """The data set is not available on this machine; it may be on another worker's."""


def error_record(error: BaseException) -> ErrorRecord:
    """An error as it is stored: type, message and traceback, 4 KiB in all at most."""
    message = clean_text(str(error)).encode()[:MAX_MESSAGE_BYTES].decode(errors="ignore")
    trace = clean_text("".join(traceback.format_exception(error))).encode()[-MAX_TRACEBACK_BYTES:]
    return {"type": type(error).__name__, "message": message, "traceback": trace.decode(errors="ignore")}


def clean_text(text: str) -> str:
    """Text that every database and every client takes."""
    return text.encode("utf-8", "replace").decode().replace("\0", "")


def finite_or_none(value: Any) -> Any:
    """JSON has no NaN: such a loss is null."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
