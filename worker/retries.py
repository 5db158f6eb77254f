"""Retries what must be done in the end, however long the database is away."""

import logging
from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, wait_exponential_jitter

from app.tuning.outages import AWAY

MAX_PAUSE_SECONDS = 2.0  # between two tries
_T = TypeVar("_T")
log = logging.getLogger("tunewell.worker")


class Interrupted(Exception):
    """The process is stopping, and what it was trying to do is not done."""


def retry_until_done(act: Callable[[], _T], stopping: Callable[[], bool], parting: float = 0.0) -> _T:
    """Call `act` until it returns, with pauses, whatever it raises; MemoryError alone passes.

    Raises:
        Interrupted: the process is stopping, and `parting` seconds of trying have passed.
    """

    def is_over(state: RetryCallState) -> bool:
        return stopping() and (state.seconds_since_start or 0.0) >= parting

    def give_up(_: RetryCallState) -> _T:
        raise Interrupted

    again = retry_if_exception(lambda error: isinstance(error, Exception) and not isinstance(error, MemoryError))
    pause = wait_exponential_jitter(multiplier=0.1, max=MAX_PAUSE_SECONDS)
    return Retrying(retry=again, wait=pause, stop=is_over, before_sleep=_log_first, retry_error_callback=give_up)(act)


def _log_first(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    if state.attempt_number == 1 and not isinstance(error, AWAY):  # AWAY has a log line of the database's own
        log.error("retrying until it succeeds", exc_info=error)
