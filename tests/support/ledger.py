"""Jobs for the tests of the store, and an audit of each job's counters and states against its rows."""

import json
import random
from collections import Counter
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar
from uuid import UUID

from sqlalchemy import Engine, delete, select, update
from sqlalchemy.orm import Session, undefer

from app.tuning.database import clock, reading, writing
from app.tuning.jobs import claims, deletions, outcomes, store
from app.tuning.jobs.attempts import AttemptKey, ErrorRecord, Failed, Finished, Lost, Released, Result
from app.tuning.jobs.claims import Claim
from app.tuning.jobs.tables import (
    ENDED_JOB,
    Attempt,
    Fit,
    IdempotencyKey,
    Job,
    JobState,
    Outcome,
    Place,
    State,
    Trial,
    Worker,
)
from app.tuning.search.candidates import draw_candidates
from app.tuning.search.spec import JobSpec

P = ParamSpec("P")
T = TypeVar("T")
Score = Callable[[Claim], float | None]
BROKEN: ErrorRecord = {"type": "ValueError", "message": "the loss is not a number", "traceback": None}
GONE: ErrorRecord = {"type": "LostWorker", "message": "no sign of life", "traceback": None}


def grid(trials: int = 2, **changes: Any) -> JobSpec:
    """A grid of `trials` trials; the later ones are more expensive."""
    neurons = {"strategy": "grid", "param_grid": {"num_neurons": [8 * (n + 1) for n in range(trials)]}}
    return spec(neurons, **changes)


def spec(search: dict[str, Any], **changes: Any) -> JobSpec:
    """A job on the small data set, as a client posts it."""
    return JobSpec.model_validate_json(json.dumps({"dataset": {"name": "digits"}, "search": search, **changes}))


def scored(accuracy: float, fit_seconds: float = 2.0) -> Result:
    """A fit's result."""
    environment = {"tunewell": "0", "found": str(accuracy)}
    model: Any = {"environment": environment, "files": []}
    return Result(accuracy, 1 - accuracy, fit_seconds, 0.5, environment, model=model)


class Ledger:
    """Calls the store, each time in one transaction, and audits the whole database after each, or every so many."""

    def __init__(self, engine: Engine, audit_every: int = 1) -> None:
        self.engine = engine
        self._audit_every = audit_every  # 0: never
        self._calls = 0

    def do(self, act: Callable[Concatenate[Session, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function in a transaction of its own."""
        with writing(self.engine) as session:
            done = act(session, *args, **kwargs)
        self._calls += 1
        if self._audit_every and self._calls % self._audit_every == 0:
            self.audit()
        return done

    def post(self, spec: JobSpec) -> UUID:
        """Create the job as the API does."""
        return self.do(store.insert_job, spec, draw_candidates(spec)).id

    def train(
        self,
        job_id: UUID,
        score: Score,
        order: random.Random,
        workers: int = 4,
        bear: Callable[["Ledger"], bool] = lambda ledger: False,
    ) -> int:
        """Train the job, at most `workers` fits at once, which end, are lost or are recorded twice in any order.

        A fit fails if its score is None; `bear` proposes a trial where nothing can be claimed. The number of folds'
        fits that have ended.
        """
        held: list[Claim] = []
        trained = 0
        while True:
            while len(held) < workers:
                if claim := self.do(claims.claim, job_id, "w1", "m1"):
                    held.append(claim)
                elif not bear(self):
                    break
            if not held:
                return trained
            claim = held.pop(order.randrange(len(held)))
            if order.random() < 0.1 and self.fit(claim.fit_id).lost_attempts == 0:
                assert self.lose(claim)
                continue
            accuracy = score(claim)
            assert self.fail(claim) if accuracy is None else self.finish(claim, accuracy)
            if accuracy is not None and order.random() < 0.1:
                self.finish(claim, accuracy)  # recorded twice: a COMMIT whose response was lost
            trained += claim.fold is not None

    def claim(self, job_id: UUID, worker: str = "w1", message_id: str = "m1") -> Claim:
        """Claim a fit; there must be one."""
        claimed = self.do(claims.claim, job_id, worker, message_id)
        assert claimed is not None
        return claimed

    def none_to_claim(self, job_id: UUID) -> bool:
        return self.do(claims.claim, job_id, "w1", "m1") is None

    def finish(self, hold: AttemptKey, accuracy: float = 0.5) -> bool:
        return self.do(outcomes.record, hold, Finished(scored(accuracy)))

    def fail(self, hold: AttemptKey, message: str = "the loss is not a number") -> bool:
        return self.do(outcomes.record, hold, Failed(BROKEN | {"message": message}))

    def lose(self, hold: AttemptKey, outcome: Outcome = Outcome.LOST) -> bool:
        return self.do(outcomes.record, hold, Lost(outcome, GONE))

    def cancel(self, job_id: UUID) -> None:
        def act(session: Session) -> None:
            job = store.lock_job(session, job_id)
            assert job is not None
            outcomes.cancel_job(session, job)

        self.do(act)

    def remove(self, job_id: UUID) -> None:
        """Delete the job as the API does, and then the rest of its rows."""

        def act(session: Session) -> None:
            job = store.lock_job(session, job_id)
            assert job is not None
            deletions.begin_deletion(session, job)

        self.do(act)
        while self.do(deletions.delete_some_rows):
            pass

    def finish_search(self, job_id: UUID, score: Callable[[int, int], float | None]) -> None:
        """Train every fold: `score` of trial and fold is the accuracy, or None for a failure."""
        while (claim := self.do(claims.claim, job_id, "w1", "m1")) is not None and claim.fold is not None:
            accuracy = score(claim.trial_number, claim.fold)
            assert self.fail(claim) if accuracy is None else self.finish(claim, accuracy)
        if claim:
            assert self.do(outcomes.record, claim, Released())

    def expire(self, fit_id: int) -> None:
        """Make the fit's lease expired long ago."""
        self.do(store.execute_change, update(Fit).where(Fit.id == fit_id).values(lease_until=clock(-86_400)))

    def job(self, job_id: UUID) -> Job:
        with reading(self.engine) as session:
            return session.get_one(Job, job_id)

    def trial(self, job_id: UUID, number: int) -> Trial:
        with reading(self.engine) as session:
            return session.get_one(Trial, (job_id, number))

    def trials(self, job_id: UUID) -> list[Trial]:
        with reading(self.engine) as session:
            return list(session.scalars(select(Trial).where(Trial.job_id == job_id).order_by(Trial.number)))

    def fit(self, fit_id: int) -> Fit:
        with reading(self.engine) as session:
            return session.get_one(Fit, fit_id)

    def fits(self, job_id: UUID) -> list[Fit]:
        with reading(self.engine) as session:
            order = (Fit.fold.is_(None), Fit.trial_number, Fit.fold)
            return list(session.scalars(select(Fit).where(Fit.job_id == job_id).order_by(*order)))

    def attempts(self, fit_id: int) -> list[Attempt]:
        with reading(self.engine) as session:
            return list(session.scalars(select(Attempt).where(Attempt.fit_id == fit_id).order_by(Attempt.attempt)))

    def empty(self) -> None:
        """Delete all rows."""
        with writing(self.engine) as session:
            for table in (Fit, Place, Trial, Job, IdempotencyKey, Worker):
                session.execute(delete(table))

    def audit(self) -> None:
        """Check each job's counters and state against its rows."""
        with reading(self.engine) as session:
            for job in session.scalars(select(Job).options(undefer(Job.saved_model))):
                trials = list(session.scalars(select(Trial).where(Trial.job_id == job.id)))
                fits = list(session.scalars(select(Fit).where(Fit.job_id == job.id)))
                tries = session.scalars(select(Attempt).join(Fit).where(Fit.job_id == job.id)).all()
                _audit_counters(job, trials, fits)
                _audit_states(job, trials, fits)
                _audit_attempts(fits, list(tries))
                _audit_best(job, trials)


def _audit_counters(job: Job, trials: list[Trial], fits: list[Fit]) -> None:
    for what, states in (("trials", [trial.state for trial in trials]), ("fits", [fit.state for fit in fits])):
        counted = Counter(states)
        counters = {state: getattr(job, f"{what}_{state}", 0) for state in State}
        assert counters == {state: counted[state] for state in State}, what
        assert getattr(job, f"{what}_total") == len(states)
    assert job.cost_left >= 0


def _audit_states(job: Job, trials: list[Trial], fits: list[Fit]) -> None:
    ended = job.state in ENDED_JOB
    assert (job.ended_at is not None) == ended
    assert (job.error is not None) == (job.state == JobState.FAILED)
    if ended:
        states = {trial.state for trial in trials} | {fit.state for fit in fits}
        assert not states & {State.QUEUED, State.RUNNING}
    elif job.state == JobState.CANCELLING:
        assert job.fits_running and not job.fits_queued
    else:
        assert (
            job.fits_running or job.unborn or any(f.state == State.QUEUED and f.position is not None for f in fits)
        ), "it is stuck"
    if job.saved_model:
        found = [str(fit.accuracy) for fit in fits if fit.fold is None and fit.state == State.SUCCEEDED]
        assert [job.saved_model["environment"]["found"]] == found, "the refit's own model"
    if job.state == JobState.SUCCEEDED:
        assert job.trials_succeeded and all(fit.state == State.SUCCEEDED for fit in fits if fit.fold is None)
    for trial in trials:
        folds = {fit.state for fit in fits if fit.trial_number == trial.number and fit.fold is not None}
        if trial.state == State.SUCCEEDED:
            assert folds == {State.SUCCEEDED}
        elif trial.state == State.FAILED:
            assert not folds & {State.QUEUED, State.RUNNING} and State.FAILED in folds and trial.error
        elif trial.state == State.PRUNED:
            assert folds <= {State.SUCCEEDED, State.CANCELLED} and (job.rungs or State.CANCELLED in folds)
        elif trial.state == State.CANCELLED:
            assert State.CANCELLED in folds or job.rungs
        else:
            assert folds & {State.QUEUED, State.RUNNING} or job.rungs
        if not job.rungs:
            assert (trial.validation_score is not None) == (trial.state == State.SUCCEEDED)


def _audit_attempts(fits: list[Fit], tries: list[Attempt]) -> None:
    for fit in fits:
        mine = sorted((one for one in tries if one.fit_id == fit.id), key=lambda one: one.attempt)
        assert [one.attempt for one in mine] == list(range(1, fit.attempt + 1))
        still_open = [one.attempt for one in mine if one.ended_at is None]
        running = fit.state == State.RUNNING
        assert still_open == ([fit.attempt] if running else [])
        assert (fit.lease_until is not None) == running
        recorded = [one.attempt for one in mine if one.outcome == Outcome.SUCCEEDED]
        if fit.fold is None:  # trained again once another trial may win
            recorded = [attempt for attempt in recorded if attempt == fit.attempt and fit.state == State.SUCCEEDED]
        assert recorded == ([fit.attempt] if fit.state == State.SUCCEEDED else []), "recorded once, by the last attempt"
        assert (fit.score is not None) == (fit.state == State.SUCCEEDED)
        assert (fit.error is not None) == (fit.state == State.FAILED)
        assert (fit.ended_at is not None) == (fit.state not in (State.QUEUED, State.RUNNING))


def _audit_best(job: Job, trials: list[Trial]) -> None:
    known = [trial for trial in trials if trial.validation_score is not None]
    if job.rungs and job.state in (JobState.SUCCEEDED, JobState.FAILED):
        known = [trial for trial in known if trial.state == State.SUCCEEDED]
    if job.spec["evaluation"].get("select") == "one_standard_error" and job.ended_at:
        assert job.best_score == next((t.validation_score for t in known if t.number == job.best_trial), None)
        return
    best = max(known, key=lambda t: (t.n_resources, t.validation_score, -t.number), default=None)
    assert job.best_score == (best.validation_score if best else None)
    assert job.best_accuracy == next((t.validation_accuracy for t in known if t.number == job.best_trial), None)
    if not job.rungs:  # of equally good ones in a last rung the first in its order wins
        assert job.best_trial == (best.number if best else None)
