"""Tries again what has to be done in the end, however long its database is away."""

import logging
from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, wait_exponential_jitter

from app.tuning.database import AWAY

MAX_RETRY_PAUSE = 2.0  # between two tries
T = TypeVar("T")
log = logging.getLogger("tunewell.worker")


class Interrupted(Exception):
    """The process is to stop: what it was trying to do is not done."""


def retry_until_done(act: Callable[[], T], stopping: Callable[[], bool], parting: float = 0.0) -> T:
    """What `act` returns, which is tried again, with pauses, for as long as it raises.

    Raises:
        Interrupted: the process is to stop, and so many seconds have passed.
    """

    def over(state: RetryCallState) -> bool:
        return stopping() and (state.seconds_since_start or 0.0) >= parting

    def give_up(_: RetryCallState) -> T:
        raise Interrupted

    again = retry_if_exception(lambda error: isinstance(error, Exception) and not isinstance(error, MemoryError))
    pause = wait_exponential_jitter(multiplier=0.1, max=MAX_RETRY_PAUSE)
    return Retrying(retry=again, wait=pause, stop=over, before_sleep=_tell_once, retry_error_callback=give_up)(act)


def _tell_once(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    if state.attempt_number == 1 and not isinstance(error, AWAY):  # which the database's own log line tells
        log.error("trying again until it can be done", exc_info=error)
