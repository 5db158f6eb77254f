"""Tells what comes of the hyperparameters from a fault of the machine, which must decide no result."""

from collections.abc import Iterator
from contextlib import contextmanager

from app.tuning.jobs.tables import Outcome

# What training raises over hyperparameters; the last one is TensorFlow's, known by its name: this does without it.
RESULTS = (ArithmeticError, ValueError)
INVALID, EXHAUSTED = "InvalidArgumentError", "ResourceExhaustedError"


class PreparationFailed(Exception):
    """The fit could not be prepared on this machine."""


@contextmanager
def preparing() -> Iterator[None]:
    """What is raised here comes before training, so that it says nothing about the hyperparameters."""
    try:
        yield
    except RESULTS as error:
        raise PreparationFailed(f"{type(error).__name__}: {error}") from error


def outcome(error: Exception) -> Outcome:
    """How an attempt ends in which this was raised: only what comes of the hyperparameters has failed."""
    if isinstance(error, RESULTS) or _is(error, INVALID):
        return Outcome.FAILED
    return Outcome.OUT_OF_MEMORY if isinstance(error, MemoryError) or _is(error, EXHAUSTED) else Outcome.LOST


def _is(error: Exception, name: str) -> bool:
    return any(kind.__name__ == name for kind in type(error).__mro__)
