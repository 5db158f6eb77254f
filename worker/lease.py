"""Holds a fit's lease while it is trained: what training reports to, and what stops it."""

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Protocol, TypeVar

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app.tuning.database import reading, writing
from app.tuning.jobs import claims
from app.tuning.jobs.claims import LEASE_SECONDS, Claim
from app.tuning.jobs.tables import JobState
from worker.errors import JobCancelled, JobPaused, LeaseLost, TimedOut, WorkerStopping, finite_or_none

T = TypeVar("T")
RENEW_SECONDS = 4.0  # between two writes of the lease
LOOK_SECONDS = 0.3  # at least, between two looks for a cancellation


class Process(Protocol):
    """The process that training runs in."""

    def stopping(self) -> bool:
        """Whether it has been asked to stop."""

    def watch(self, within: float) -> None:
        """Have it killed if this is not called again in time."""

    def rest(self) -> None:
        """Nothing is being trained: there is nothing to watch."""

    def pause(self, seconds: float) -> None:
        """Sleep, but stop sleeping when asked to stop."""


class LeaseHeartbeat:
    """Renews the lease with training's reports, and tells training when to stop."""

    def __init__(self, engine: Engine, claim: Claim, process: Process) -> None:
        self._engine = engine
        self._claim = claim
        self._process = process
        self._epochs: list[dict[str, Any]] = []
        self._deadline = time.monotonic() + claim.spec.limits.fit_timeout_seconds
        self._renewed = self._looked = time.monotonic()  # as of the claim
        self._renewer: LeaseRenewer | None = None

    def report(self, within: float = LEASE_SECONDS) -> None:
        """Say that training goes on and reports again within so many seconds, or as long as the job allows.

        Raises:
            TrainingStopped: it has to stop.
            TimedOut: it has taken longer than the job allows.
        """
        within = min(within, max(LEASE_SECONDS, self._deadline - time.monotonic()))
        self._process.watch(within)
        self.end_renewals()
        if self._process.stopping():
            raise WorkerStopping
        if time.monotonic() > self._deadline:
            raise TimedOut(f"longer than fit_timeout_seconds, {self._claim.spec.limits.fit_timeout_seconds:g}")
        if within > LEASE_SECONDS:
            self._renewer = LeaseRenewer(self._engine, self._claim, within)
            self._renewer.start()
        now = time.monotonic()
        due = now - self._renewed >= RENEW_SECONDS or within > LEASE_SECONDS or bool(self._epochs)
        if due or now - self._looked >= LOOK_SECONDS:
            try:
                self._use_database(due)
            finally:
                self._process.watch(within)

    def wait(self, seconds: float) -> None:
        """Pause training for something that is not its fault: the time does not count.

        Raises:
            TrainingStopped: it has to stop.
        """
        began = time.monotonic()
        self._process.pause(seconds)
        self._deadline += time.monotonic() - began
        self.report()

    def end_renewals(self) -> None:
        """Stop renewing on training's behalf: it reports again, or has ended."""
        if self._renewer:
            self._renewer.over.set()

    def read(self, query: Callable[[Session], T]) -> T | None:
        """What a query finds, or None if the database is away."""
        self._process.rest()  # waiting for the database is no hang
        try:
            with reading(self._engine) as session:
                return query(session)
        except SQLAlchemyError:
            return None
        finally:
            self._process.watch(LEASE_SECONDS)

    def epoch(self, epoch: Mapping[str, Any]) -> None:
        """Note an epoch that has ended: its row is written with the next report."""
        self._epochs.append({name: finite_or_none(value) for name, value in epoch.items()})

    def take_epochs(self) -> list[dict[str, Any]]:
        """The epochs that are not written yet."""
        epochs, self._epochs = self._epochs, []
        return epochs

    def _use_database(self, due: bool) -> None:
        self._process.rest()  # waiting for the database is no hang
        began = time.monotonic()
        try:
            state = self._renew() if due else self._look()
        except SQLAlchemyError:
            # Train on: the result can still be recorded if the database is back before the fit is requeued.
            self._renewed = time.monotonic()
            return
        finally:
            self._looked = time.monotonic()
            self._deadline += self._looked - began
        if state is None:
            raise LeaseLost
        if state == JobState.CANCELLING:
            raise JobCancelled
        if state == JobState.PAUSED:
            raise JobPaused

    def _look(self) -> JobState | None:
        with reading(self._engine) as session:
            return claims.job_state_if_held(session, self._claim)

    def _renew(self) -> JobState | None:
        with writing(self._engine) as session:
            if not claims.renew(session, self._claim, LEASE_SECONDS, self._epochs):
                return None
            state = claims.job_state_if_held(session, self._claim)
        self._renewed, self._epochs = time.monotonic(), []
        return state


class LeaseRenewer(threading.Thread):
    """Renews the lease during a call that was announced as long, such as compiling.

    A lease as long as that call would hide for as long that the process has died.
    """

    def __init__(self, engine: Engine, claim: Claim, seconds: float) -> None:
        super().__init__(name="lease-renewer", daemon=True)
        self._engine, self._claim = engine, claim
        self._last = time.monotonic() + seconds - LEASE_SECONDS
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(RENEW_SECONDS) and time.monotonic() < self._last:
            with suppress(SQLAlchemyError), writing(self._engine) as session:
                claims.renew(session, self._claim, LEASE_SECONDS)
