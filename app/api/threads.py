"""The threads that endpoints run in: those that write have their own, so that nobody who reads waits for them."""

from collections.abc import Callable, Coroutine
from functools import partial, wraps
from typing import Any, ParamSpec, TypeVar

import anyio.to_thread
from anyio import CapacityLimiter
from anyio.lowlevel import RunVar

_P = ParamSpec("_P")
_T = TypeVar("_T")
# Each thread has a stack and a share of the heap, and both together and house-keeping no more than SQLite's pool has
# connections.
MAX_READERS = 10
MAX_WRITERS = 4  # a database of one file has one writer at a time
_writers: RunVar[CapacityLimiter] = RunVar("writers")


def limit_readers() -> None:
    """Let so many endpoints that do not write run at a time in this event loop."""
    anyio.to_thread.current_default_thread_limiter().total_tokens = MAX_READERS


def in_writer_thread(endpoint: Callable[_P, _T]) -> Callable[_P, Coroutine[Any, Any, _T]]:
    """Run an endpoint in one of the writers' threads, once there is one free."""

    @wraps(endpoint)
    async def call(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        limiter = _writers.get(None) or CapacityLimiter(MAX_WRITERS)
        _writers.set(limiter)
        return await anyio.to_thread.run_sync(partial(endpoint, *args, **kwargs), limiter=limiter)

    return call
