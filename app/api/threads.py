"""Separate thread pools for endpoints that read and endpoints that write, so that reads never wait for writes."""

from collections.abc import Callable, Coroutine
from functools import partial, wraps
from typing import Any, ParamSpec, TypeVar

import anyio.to_thread
from anyio import CapacityLimiter
from anyio.lowlevel import RunVar

_P = ParamSpec("_P")
_T = TypeVar("_T")
# Threads cost memory, and all of them with housekeeping must not exceed the connections of SQLite's pool.
MAX_READERS = 10
MAX_WRITERS = 4  # SQLite has one writer at a time
_writers: RunVar[CapacityLimiter] = RunVar("writers")


def limit_readers() -> None:
    """Limit the threads of endpoints that read, in the running event loop."""
    anyio.to_thread.current_default_thread_limiter().total_tokens = MAX_READERS


def in_writer_thread(endpoint: Callable[_P, _T]) -> Callable[_P, Coroutine[Any, Any, _T]]:
    """Run an endpoint in a writer thread, as soon as one is free."""

    @wraps(endpoint)
    async def call(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        limiter = _writers.get(None) or CapacityLimiter(MAX_WRITERS)
        _writers.set(limiter)
        return await anyio.to_thread.run_sync(partial(endpoint, *args, **kwargs), limiter=limiter)

    return call
