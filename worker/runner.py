"""A fit's way through a worker: claimed, trained while its lease is held, and recorded."""

import logging
import math
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol
from uuid import UUID

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app.tuning.database import AWAY, reading, writing
from app.tuning.jobs import claims, workers
from app.tuning.jobs.claims import LEASE_SECONDS, Claim, Error, Result
from app.tuning.jobs.tables import JobState, Outcome
from app.tuning.search.stored import UnreadableSpec
from worker import faults
from worker.datasets import DatasetUnavailable
from worker.retries import retry_until_done

RENEW_SECONDS = 4.0  # between two writes of the lease
LOOK_SECONDS = 0.3  # at least, between two looks for a cancellation
PARTING_SECONDS = 10.0  # how long a process that is to stop still tries to record
MAX_MESSAGE_BYTES, MAX_TRACEBACK_BYTES = 1024, 2800  # bytes, so that an error stays below 4 KiB
LOG_MESSAGES = {
    Outcome.SUCCEEDED: "fit ended",
    Outcome.FAILED: "fit failed",
    Outcome.RELEASED: "fit released",
    Outcome.CANCELLED: "fit cancelled",
    Outcome.LOST: "fit lost",
    Outcome.TIMED_OUT: "fit lost",
    Outcome.OUT_OF_MEMORY: "fit lost",
}
log = logging.getLogger("tunewell.worker")


class Stopped(Exception):
    """Training is to end without a result."""


class Cancelled(Stopped):
    """The job is being cancelled."""


class NoLongerMine(Stopped):
    """The lease ran out, and the fit was given to somebody else or closed."""


class Released(Stopped):
    """The worker was asked to stop: somebody else will train the fit."""


class TimedOut(Exception):
    """The fit took longer than its job allows."""


class LeaseHeartbeat:
    """Holds a claim while its fit is trained: what training reports to."""

    def __init__(self, engine: Engine, claim: Claim, process: "Process") -> None:
        self._engine = engine
        self._claim = claim
        self._process = process
        self._epochs: list[dict[str, Any]] = []
        self._deadline = time.monotonic() + claim.spec.limits.fit_timeout_seconds
        self._renewed = self._looked = time.monotonic()  # as of the claim
        self._silence: LeaseRenewer | None = None

    def report(self, within: float = LEASE_SECONDS) -> None:
        """Training goes on, and reports again within so many seconds.

        Raises:
            Stopped: it is to stop instead.
            TimedOut: it has taken longer than the job allows.
        """
        self._process.watch(within)
        self.end_silence()
        if self._process.stopping():
            raise Released
        if time.monotonic() > self._deadline:
            raise TimedOut(f"longer than fit_timeout_seconds, {self._claim.spec.limits.fit_timeout_seconds:g}")
        if within > LEASE_SECONDS:
            self._silence = LeaseRenewer(self._engine, self._claim, within)
            self._silence.start()
        now = time.monotonic()
        due = now - self._renewed >= RENEW_SECONDS or within > LEASE_SECONDS or bool(self._epochs)
        if due or now - self._looked >= LOOK_SECONDS:
            try:
                self._speak(due)
            finally:
                self._process.watch(within)

    def end_silence(self) -> None:
        """Training speaks for itself again, or is over."""
        if self._silence:
            self._silence.over.set()

    def epoch(self, epoch: Mapping[str, Any]) -> None:
        """An epoch has ended: its row is written with the next report."""
        self._epochs.append({name: finite_or_none(value) for name, value in epoch.items()})

    def take_epochs(self) -> list[dict[str, Any]]:
        """The epochs that are not written yet."""
        epochs, self._epochs = self._epochs, []
        return epochs

    def _speak(self, due: bool) -> None:
        self._process.rest()  # whoever waits for the database does not hang
        began = time.monotonic()
        try:
            state = self._renew() if due else self._look()
        except SQLAlchemyError:
            # Train on: the result can still be recorded if the database is back before the fit is somebody else's.
            self._renewed = time.monotonic()
            return
        finally:
            self._looked = time.monotonic()
            self._deadline += self._looked - began
        if state is None:
            raise NoLongerMine
        if state == JobState.CANCELLING:
            raise Cancelled

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
    """Renews the lease while training is in a call that was announced as long, compiling for instance.

    A lease as long as the call would hide for as long that the whole process has died.
    """

    def __init__(self, engine: Engine, claim: Claim, seconds: float) -> None:
        super().__init__(name="silence", daemon=True)
        self._engine, self._claim = engine, claim
        self._last = time.monotonic() + seconds - LEASE_SECONDS
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(RENEW_SECONDS) and time.monotonic() < self._last:
            with suppress(SQLAlchemyError), writing(self._engine) as session:
                claims.renew(session, self._claim, LEASE_SECONDS)


class Process(Protocol):
    """The process that training runs in."""

    def stopping(self) -> bool:
        """Whether it has been asked to stop."""

    def watch(self, within: float) -> None:
        """Have it killed if this is not called again in time."""

    def rest(self) -> None:
        """Nothing is being trained: there is nothing to watch."""


TrainFit = Callable[[Claim, LeaseHeartbeat], Result]
Record = Callable[[Session], bool]


class Ending(NamedTuple):
    """What came of training a fit: how its attempt ends, and the transaction that records that."""

    outcome: Outcome
    record: Record
    error: Error | None = None


def run_fits(engine: Engine, train: TrainFit, worker: str, message_id: str, process: Process, most: int) -> int:
    """Claim the next fit of any job, train it, record what came of it, and go on to the next: how many, at `most`."""
    claimant = Claimant(engine, worker, message_id, process.stopping)
    claim = None
    for done in range(most):
        claim = claim or (None if process.stopping() else claimant.claim_next())
        if claim is None:
            return done
        claim = _run(claim, train, claimant, process, last=done + 1 == most)
    return most


def _run(claim: Claim, train: TrainFit, claimant: "Claimant", process: Process, last: bool) -> Claim | None:
    """Train a fit and record what came of it; the fit that was claimed with that, if any."""
    fields = {"job": str(claim.job_id), "trial": claim.trial_number, "fold": claim.fold, "attempt": claim.attempt}
    log.info("fit started", extra=fields)
    keeper = LeaseHeartbeat(claimant.engine, claim, process)
    try:
        ending = _trained(claim, train, keeper, claimant.worker)
    except NoLongerMine:
        log.warning("fit given up: it is no longer this attempt's", extra=fields)
        return None
    finally:
        keeper.end_silence()
        process.rest()
    if last or process.stopping():
        done, following = claimant.record(ending.record), None
    else:
        done, following = claimant.record_and_claim(ending.record, claim.job_id)
    _log_end(ending, done, fields)
    return following


def _log_end(ending: Ending, done: bool, fields: dict[str, Any]) -> None:
    """Say what became of a fit."""
    fields = fields | {"outcome": str(ending.outcome)}
    if ending.error:
        fields |= {"error": ending.error["type"], "reason": ending.error["message"]}
    if done:
        log.log(logging.WARNING if ending.error else logging.INFO, LOG_MESSAGES[ending.outcome], extra=fields)
    else:
        log.warning("late result refused", extra=fields)


@dataclass(frozen=True)
class Claimant:
    """Who claims fits: a worker's process, for one message."""

    engine: Engine
    worker: str
    message_id: str
    stopping: Callable[[], bool]

    def claim_next(self) -> Claim | None:
        """The next fit of the job whose turn it is."""
        return retry_until_done(self._claim_next, self.stopping)

    def _claim_next(self) -> Claim | None:
        try:
            with reading(self.engine) as session:
                jobs = claims.list_claimable(session, self.worker)
            for job_id, _ in jobs:
                with suppress(UnreadableSpec), writing(self.engine) as session:
                    if claim := claims.claim(session, job_id, self.worker, self.message_id):
                        return claim
        except AWAY:
            if retry_until_done(self._holds_unheard, self.stopping) and self.record(self._release_unheard):
                log.warning("claim given back: the answer to it was lost")
            raise
        return None

    def record(self, record: Record) -> bool:
        """Record, alone."""
        return record_with_retries(self.engine, record, self.stopping)

    def record_and_claim(self, record: Record, job_id: UUID) -> tuple[bool, Claim | None]:
        """Record, and claim the next fit in the same transaction, which is faster than in two."""
        try:
            with writing(self.engine) as session:
                done = record(session)
                return done, claims.claim_following(session, job_id, self.worker, self.message_id) if done else None
        except Exception as error:  # whatever the claim came to, the result counts
            log.warning("recording again, alone", extra={"reason": type(error).__name__})
        done = self.record(record)
        self.record(self._release_unheard)
        return done, None

    def _holds_unheard(self) -> bool:
        with reading(self.engine) as session:
            return claims.holds(session, self.message_id, self.worker)

    def _release_unheard(self, session: Session) -> bool:
        return claims.release_orphaned(session, self.message_id, self.worker)


def _trained(claim: Claim, train: TrainFit, keeper: LeaseHeartbeat, worker: str) -> Ending:
    """Train, and turn whatever comes of it into what is to be recorded."""
    try:
        keeper.report()
        result = train(claim, keeper)
    except Cancelled:
        return Ending(Outcome.CANCELLED, lambda session: claims.stop(session, claim))
    except Released:
        return Ending(Outcome.RELEASED, lambda session: claims.release(session, claim))
    except NoLongerMine:
        raise
    except DatasetUnavailable as error:
        reason = error_record(error)
        return Ending(Outcome.RELEASED, lambda session: claims.record_absence(session, claim, worker, reason), reason)
    except Exception as error:
        return _failed(claim, error, keeper.take_epochs(), worker)
    epochs = keeper.take_epochs()
    return Ending(Outcome.SUCCEEDED, lambda session: claims.finish(session, claim, result, epochs))


def _failed(claim: Claim, error: Exception, epochs: list[dict[str, Any]], worker: str) -> Ending:
    reason = error_record(error)
    outcome = Outcome.TIMED_OUT if isinstance(error, TimedOut) else faults.outcome(error)
    if outcome == Outcome.FAILED:
        return Ending(outcome, lambda session: claims.fail(session, claim, reason, epochs), reason)

    def lose(session: Session) -> bool:
        lost = claims.lose(session, claim, outcome, reason)
        if outcome != Outcome.TIMED_OUT:
            workers.rest_worker(session, worker)
        return lost

    return Ending(outcome, lose, reason)


def record_with_retries(engine: Engine, record: Record, stopping: Callable[[], bool] = lambda: False) -> bool:
    """Record in one transaction, again and again until it is done: what is recorded must bear repeating.

    Whatever is wrong meanwhile, it is not the result; and once the fit is no longer its own, `record` finds nothing.

    Raises:
        Interrupted: the process is to stop, and there is still no way to record it.
    """

    def act() -> bool:
        with writing(engine) as session:
            return record(session)

    return retry_until_done(act, stopping, PARTING_SECONDS)


def error_record(error: BaseException) -> Error:
    """An error as it is stored: type, message and traceback, 4 KiB in all at most."""
    message = clean_text(str(error)).encode()[:MAX_MESSAGE_BYTES].decode(errors="ignore")
    trace = (
        clean_text("".join(traceback.format_exception(error))).encode()[-MAX_TRACEBACK_BYTES:].decode(errors="ignore")
    )
    return {"type": type(error).__name__, "message": message, "traceback": trace}


def clean_text(text: str) -> str:
    """Text that every database and every client takes."""
    return text.encode("utf-8", "replace").decode().replace("\0", "")


def finite_or_none(value: Any) -> Any:
    """JSON has no NaN: such a loss is null."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
