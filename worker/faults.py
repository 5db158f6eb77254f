"""Separates errors caused by the hyperparameters, which are results, from faults of the machine, which are not."""

from collections.abc import Iterator
from contextlib import contextmanager

from app.tuning.jobs.tables import Outcome

# What unsuitable hyperparameters make training raise.
RESULTS = (ArithmeticError, ValueError)
# TensorFlow's errors, by name because this module does not import TensorFlow.
INVALID, EXHAUSTED = "InvalidArgumentError", "ResourceExhaustedError"


class PreparationFailed(Exception):
    """The fit could not be prepared on this machine."""


@contextmanager
def preparing() -> Iterator[None]:
    """Mark errors raised in this block: they precede training, so the hyperparameters are not their cause."""
    try:
        yield
    except RESULTS as error:
        raise PreparationFailed(f"{type(error).__name__}: {error}") from error


def outcome(error: Exception) -> Outcome:
    """The outcome of an attempt that raised this: FAILED only if the hyperparameters are the cause."""
    if isinstance(error, RESULTS) or _is_named(error, INVALID):
        return Outcome.FAILED
    return Outcome.OUT_OF_MEMORY if isinstance(error, MemoryError) or _is_named(error, EXHAUSTED) else Outcome.LOST


def _is_named(error: Exception, name: str) -> bool:
    return any(kind.__name__ == name for kind in type(error).__mro__)
