"""Runs a function in several new processes at the same time, with a barrier between steps."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from typing import Any, TypeVar

LONGEST_STEP = 900.0  # seconds between two meetings
Found = TypeVar("Found")
_barrier: Barrier | None = None


def together(count: int, function: Callable[..., Found], *arguments: Any) -> list[Found]:
    """The results of `count` new processes; the first error is raised here."""
    context = get_context("spawn")
    share = context.Barrier(count, timeout=LONGEST_STEP)
    with ProcessPoolExecutor(count, context, initializer=_keep, initargs=(share,)) as pool:
        futures = [pool.submit(_run, function, arguments) for _ in range(count)]
        return [future.result() for future in futures]


def alone(function: Callable[..., Found], *arguments: Any) -> Found:
    """The result of one new process."""
    return together(1, function, *arguments)[0]


def meet() -> None:
    """Wait until every process has reached this point."""
    if _barrier:
        _barrier.wait()


def _keep(barrier: Barrier) -> None:
    global _barrier
    _barrier = barrier


def _run(function: Callable[..., Found], arguments: tuple[Any, ...]) -> Found:
    try:
        return function(*arguments)
    except BaseException:
        if _barrier:
            _barrier.abort()
        raise
