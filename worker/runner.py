"""A fit's way through a worker: claimed, trained, and recorded together with the claim of the next one."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any
from uuid import UUID

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from app.tuning.database import reading, writing
from app.tuning.jobs import claims, outcomes
from app.tuning.jobs.attempts import Cancelled, End, Failed, Finished, Lost, Released, Result, Unavailable, outcome_of
from app.tuning.jobs.births import Birth, find_birth
from app.tuning.jobs.claims import Claim
from app.tuning.jobs.tables import Outcome
from app.tuning.outages import AWAY
from app.tuning.search.stored import UnreadableSpec
from worker import faults
from worker.errors import (
    DatasetUnavailable,
    JobCancelled,
    JobPaused,
    LeaseLost,
    TimedOut,
    WorkerStopping,
    error_record,
)
from worker.lease import LeaseHeartbeat, Process
from worker.retries import retry_until_done

LINGER_SECONDS = 0.1  # between two looks for fits that the next step of a search lets in
PARTING_SECONDS = 10.0  # how long a process that is to stop still tries to record
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
TrainFit = Callable[[Claim, LeaseHeartbeat], Result]
Change = Callable[[Session], bool]


def run_fits(
    engine: Engine,
    train: TrainFit,
    worker: str,
    message_id: str,
    process: Process,
    most: int,
    hint: Callable[[], None] = lambda: None,
) -> int:
    """Claim the next fit of any job, train it, record what came of it, and go on to the next: how many, at `most`.

    `hint` is called after each end that was recorded.
    """
    claimant = Claimant(engine, worker, message_id, process.stopping)
    claim = None
    for done in range(most):
        claim = claim or _wait_for_fit(claimant, process)
        if claim is None:
            return done
        claim = _run(claim, train, claimant, process, last=done + 1 == most)
        hint()
    return most


def _wait_for_fit(claimant: "Claimant", process: Process) -> Claim | None:
    """The next fit; where a fit that is being trained may let others in, this is tried until it has ended."""
    while not process.stopping():
        if claim := claimant.claim_next():
            return claim
        if claimant.propose_next():
            continue
        if not claimant.expects_fits():
            return None
        process.pause(LINGER_SECONDS)
    return None


def _run(claim: Claim, train: TrainFit, claimant: "Claimant", process: Process, last: bool) -> Claim | None:
    """Train a fit and record how that ended; the fit that was claimed in the same transaction, if any."""
    fields = {"job": str(claim.job_id), "trial": claim.trial_number, "fold": claim.fold, "attempt": claim.attempt}
    log.info("fit started", extra=fields)
    heartbeat = LeaseHeartbeat(claimant.engine, claim, process)
    try:
        end = _train(claim, train, heartbeat, claimant.worker)
    except LeaseLost:
        log.warning("fit given up: it is no longer this attempt's", extra=fields)
        return None
    finally:
        heartbeat.end_renewals()
        process.rest()
    if last or process.stopping():
        recorded, following = claimant.record(claim, end), None
    else:
        recorded, following = claimant.record_and_claim(claim, end)
    _log_end(end, recorded, fields)
    return following


def _log_end(end: End, recorded: bool, fields: dict[str, Any]) -> None:
    outcome, error = outcome_of(end), getattr(end, "error", None)
    fields = fields | {"outcome": str(outcome)}
    if error:
        fields |= {"error": error["type"], "reason": error["message"]}
    if recorded:
        log.log(logging.WARNING if error else logging.INFO, LOG_MESSAGES[outcome], extra=fields)
    else:
        log.warning("late result rejected", extra=fields)


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

    def propose_next(self, job_id: UUID | None = None) -> bool:
        """Propose the next trial of this job, or else of any model-based search; False if none can be born."""
        birth = retry_until_done(partial(self._find_birth, job_id), self.stopping)
        if birth is None:
            return False
        from worker.proposals import propose_candidate  # outside any transaction: it takes a while

        candidate = propose_candidate(birth)
        self._commit(lambda session: outcomes.record_birth(session, birth.job_id, birth.number, candidate))
        return True

    def expects_fits(self) -> bool:
        """Whether the next step of a search may let in fits, so that it is not worth to end."""
        return retry_until_done(self._expects_fits, self.stopping)

    def record(self, claim: Claim, end: End) -> bool:
        """Record how the claim's attempt ended; False if the fit is no longer that attempt's."""
        return self._commit(lambda session: outcomes.record(session, claim, end))

    def record_and_claim(self, claim: Claim, end: End) -> tuple[bool, Claim | None]:
        """Record, and claim the next fit in the same transaction, which is faster than in two."""
        try:
            with writing(self.engine) as session:
                recorded = outcomes.record(session, claim, end)
                return recorded, self._claim_following(session, claim.job_id) if recorded else None
        except Exception as error:  # whatever the claim came to, the result counts
            log.warning("recording again, alone", extra={"reason": type(error).__name__})
        recorded = self.record(claim, end)
        self._commit(self._release_orphaned)
        return recorded, None

    def _claim_next(self) -> Claim | None:
        try:
            with reading(self.engine) as session:
                jobs = claims.list_claimable(session, self.worker)
            for job_id, _ in jobs:
                # Or else a search whose turn it is would wait until no other job has any fits.
                if claim := self._claim(job_id) or (self.propose_next(job_id) and self._claim(job_id)):
                    return claim
        except AWAY:
            if retry_until_done(self._holds_orphaned, self.stopping) and self._commit(self._release_orphaned):
                log.warning("claim released: the response to its commit was lost")
            raise
        return None

    def _claim(self, job_id: UUID) -> Claim | None:
        try:
            with writing(self.engine) as session:
                return claims.claim(session, job_id, self.worker, self.message_id)
        except UnreadableSpec as error:
            _warn_once(str(job_id), str(error))
            return None

    def _find_birth(self, job_id: UUID | None) -> Birth | None:
        with reading(self.engine) as session:
            return find_birth(session, job_id)

    def _expects_fits(self) -> bool:
        with reading(self.engine) as session:
            return claims.expects_fits(session, self.worker)

    def _claim_following(self, session: Session, job_id: UUID) -> Claim | None:
        return claims.claim_following(session, job_id, self.worker, self.message_id)

    def _holds_orphaned(self) -> bool:
        with reading(self.engine) as session:
            return claims.holds(session, self.message_id, self.worker)

    def _release_orphaned(self, session: Session) -> bool:
        return claims.release_orphaned(session, self.message_id, self.worker)

    def _commit(self, change: Change) -> bool:
        return commit_with_retries(self.engine, change, self.stopping)


@cache
def _warn_once(job: str, reason: str) -> None:
    log.warning("fit passed over: this version cannot read it", extra={"job": job, "reason": reason})


def _train(claim: Claim, train: TrainFit, heartbeat: LeaseHeartbeat, worker: str) -> End:
    """Train, and tell how the attempt ends.

    Raises:
        LeaseLost: there is nothing to record: the fit is no longer this attempt's.
    """
    try:
        heartbeat.report()
        return Finished(train(claim, heartbeat), heartbeat.take_epochs())
    except JobCancelled:
        return Cancelled()
    except (WorkerStopping, JobPaused):
        return Released()
    except LeaseLost:
        raise
    except DatasetUnavailable as error:
        return Unavailable(error_record(error), worker, claim.spec.dataset.name)
    except TimedOut as error:
        return Lost(Outcome.TIMED_OUT, error_record(error))
    except Exception as error:
        outcome = faults.outcome(error)
        if outcome == Outcome.FAILED:
            return Failed(error_record(error), heartbeat.take_epochs())
        return Lost(outcome, error_record(error), resting_worker=worker)


def commit_with_retries(engine: Engine, change: Change, stopping: Callable[[], bool] = lambda: False) -> bool:
    """Commit a change in a transaction of its own, again and again until it is done: it must be idempotent.

    Whatever goes wrong meanwhile is not the result's fault.

    Raises:
        Interrupted: the process is to stop, and there is still no way to commit.
    """

    def act() -> bool:
        with writing(engine) as session:
            return change(session)

    return retry_until_done(act, stopping, PARTING_SECONDS)
