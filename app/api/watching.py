"""One reader a process for all who watch: it reads once a second, and only while somebody watches.

The rows are the truth: a stream is told what has changed since the version that it has sent, so nothing is kept for
it, and one that is slow or comes back misses nothing.
"""

import asyncio
import logging
import signal
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar, cast

import anyio
import anyio.to_thread
from sqlalchemy import Engine, PoolProxiedConnection
from sqlalchemy.orm import Session

from app.api.hints import HintListener
from app.api.topics import Topic
from app.tuning.database import impatient, reading
from app.tuning.outages import AWAY

READ_SECONDS = 1.0  # between two reads, or between the last change and one that a worker's hint leads to
STOP_CHECK_SECONDS = 0.2  # between two looks whether the server stops
LOCK_PATIENCE_SECONDS = 2.0  # for a lock: the next read comes soon
log = logging.getLogger("tunewell.api")
_T = TypeVar("_T", bound=Topic)
_R = TypeVar("_R")


class Watcher:
    """Reads what streams are about, and wakes them when it has changed."""

    def __init__(self, engine: Engine) -> None:
        self._engine = impatient(engine, LOCK_PATIENCE_SECONDS)
        self._glance = _Glance(engine) if engine.dialect.name == "sqlite" else None
        self._topics: dict[tuple[object, ...], tuple[Topic, int]] = {}  # and how many follow each
        self._reads = asyncio.Lock()
        self._changed = asyncio.Event()
        self._hinted = threading.Event()
        self._woke = 0.0
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self.streams = 0

    @contextmanager
    def follow(self, topic: _T) -> Iterator[_T]:
        """This topic, or the one that others follow already, is read from now on."""
        shared, followers = self._topics.get(topic.key, (topic, 0))
        self._topics[topic.key] = shared, followers + 1
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        try:
            yield cast(_T, shared)
        finally:
            shared, followers = self._topics.pop(topic.key)
            if followers > 1:
                self._topics[topic.key] = shared, followers - 1

    async def await_changes(self, seconds: float) -> AsyncIterator[None]:
        """Step at once and after each change, for so many seconds or until the server stops."""
        end = time.monotonic() + seconds
        while not self._closing and time.monotonic() < end:
            changed = self._changed
            yield
            with anyio.move_on_after(max(0.0, end - time.monotonic())):
                await changed.wait()

    async def read(self, needed: Callable[[], bool], act: Callable[[Session], _R]) -> None:
        """Read if it is still needed once nobody else reads; nothing happens while the database is away."""
        async with self._reads:
            if needed():
                with suppress(*AWAY):
                    await anyio.to_thread.run_sync(self._read, act)

    async def close(self) -> None:
        """End all streams, and the reading."""
        self._stop()
        if self._task:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        if self._glance:
            self._glance.close()

    async def _run(self) -> None:
        listener = HintListener(self._hinted.set)
        listener.start()
        try:
            while self._topics and not self._closing:
                await self._rest()
                if self._topics and not self._closing:
                    await self._look()
        finally:
            listener.over.set()

    async def _rest(self) -> None:
        began = time.monotonic()
        while not self._closing and not self._is_due(began):
            await asyncio.sleep(STOP_CHECK_SECONDS)
            # uvicorn waits for open streams before it ends the app: these have to end by themselves.
            if is_server_stopping():
                self._stop()
        self._hinted.clear()

    def _is_due(self, began: float) -> bool:
        last = self._woke if self._hinted.is_set() else began
        return time.monotonic() >= last + READ_SECONDS

    async def _look(self) -> None:
        topics = [topic for topic, _ in self._topics.values()]
        try:
            async with self._reads:
                changed = await anyio.to_thread.run_sync(self._refresh, topics)
        except AWAY:  # which the database's own line in the log says
            return
        except Exception:  # streams wait for this task: it must not end
            log.exception("watching fails")
            return
        if changed:
            self._wake()

    def _refresh(self, topics: Sequence[Topic]) -> bool:
        if self._glance and not self._glance.has_changed():
            return False
        return self._read(lambda session: any([topic.refresh(session) for topic in topics]))

    def _read(self, act: Callable[[Session], _R]) -> _R:
        with reading(self._engine) as session:
            return act(session)

    def _stop(self) -> None:
        self._closing = True
        self._wake()

    def _wake(self) -> None:
        self._woke = time.monotonic()
        self._changed.set()
        self._changed = asyncio.Event()


class _Glance:
    """Whether anybody has committed to a SQLite file, which takes no lock worth the name to see."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: PoolProxiedConnection | None = None
        self._seen: int | None = None

    def has_changed(self) -> bool:
        """Whether there was a commit since the last call; True too if this cannot be seen."""
        try:
            if self._connection is None:
                self._connection = self._connect()
            driver: Any = self._connection.dbapi_connection
            before, self._seen = self._seen, driver.execute("PRAGMA data_version").fetchone()[0]
        except (*AWAY, sqlite3.Error):
            self.close()
            return True
        return self._seen != before

    def close(self) -> None:
        """Give the connection up; the next look makes another."""
        if self._connection is not None:
            self._connection.close()
        self._connection = self._seen = None

    def _connect(self) -> PoolProxiedConnection:
        connection = self._engine.raw_connection()
        connection.detach()  # the pool has just enough connections for all threads
        driver: Any = connection.dbapi_connection
        driver.execute(f"PRAGMA busy_timeout = {LOCK_PATIENCE_SECONDS * 1000:.0f}")
        return connection


def is_server_stopping() -> bool:
    """Whether uvicorn has been asked to stop: its handler of SIGTERM is a method of the server."""
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return getattr(server, "should_exit", False) is True
