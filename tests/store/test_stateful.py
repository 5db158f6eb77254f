"""The store against a simple model: in any order of events nothing is lost and nothing is counted twice."""

import statistics
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run_machine
from sqlalchemy import Engine, delete
from sqlalchemy.orm import Session

from app.tuning.database import reading
from app.tuning.jobs import claims, outcomes, store
from app.tuning.jobs.attempts import Cancelled, Finished, Lost, Released, Unavailable
from app.tuning.jobs.claims import Claim
from app.tuning.jobs.outcomes import MAX_LOST_ATTEMPTS
from app.tuning.jobs.tables import Fit, Outcome, State, Worker
from tests.support.ledger import BROKEN, GONE, Ledger, grid, scored
from tests.support.mirror import Mirror

ACCURACIES = (0.25, 0.5, 0.75)
A_JOB: dict[str, Any] = {
    "trials": st.integers(1, 3),
    "folds": st.integers(1, 2),
    "refit": st.sampled_from([True, True, False]),
    "parallel": st.sampled_from([None, None, 1, 2]),
    "most_failed": st.sampled_from([None, None, 0, 1]),
}
NUMBER = st.integers(0, 5)
Choice = tuple[int, bool]  # which, and whether it is late
CHOICE = st.tuples(NUMBER, st.booleans())
OPEN = ("queued", "running", "cancelling")


@dataclass
class ModelFit:
    """What is known of a fit: its attempts are numbered by the claims."""

    trial: int | None
    fold: int | None
    state: str = "queued"
    attempt: int = 0
    lost: int = 0
    expired: bool = False
    accuracy: float | None = None


@dataclass
class ModelJob:
    """A job as the API's contract describes it."""

    trials: int
    folds: int
    parallel: int | None
    most_failed: int | None
    state: str = "queued"
    fits: list[ModelFit] = field(default_factory=list)

    def of(self, trial: int) -> list[ModelFit]:
        return [fit for fit in self.fits if fit.trial == trial and fit.fold is not None]

    def running(self) -> list[ModelFit]:
        return [fit for fit in self.fits if fit.state == "running"]

    def claimable(self) -> list[ModelFit]:
        if self.state not in ("queued", "running") or len(self.running()) >= (self.parallel or len(self.fits)):
            return []
        # Later trials are more expensive, and the refit is claimable when nothing else is left.
        waiting = [fit for fit in self.fits if fit.state == "queued" and fit.trial is not None]
        return sorted(waiting, key=lambda fit: (fit.fold is None, -(fit.trial or 0), fit.fold))

    def trial_state(self, trial: int) -> str:
        states = {fit.state for fit in self.of(trial)}
        if states & {"queued", "running"}:
            return "running" if any(fit.attempt for fit in self.of(trial)) else "queued"
        return "cancelled" if "cancelled" in states else "failed" if "failed" in states else "succeeded"

    def best(self) -> tuple[int, float] | None:
        means = [
            (-statistics.fmean(fit.accuracy or 0.0 for fit in self.of(trial)), trial)
            for trial in range(self.trials)
            if self.trial_state(trial) == "succeeded"
        ]
        return (min(means)[1], -min(means)[0]) if means else None

    def close(self, state: str) -> None:
        """Nothing of it runs or waits any more."""
        self.state = state
        for fit in self.fits:
            if fit.state in ("queued", "running"):
                fit.state = "cancelled"

    def end(self, fit: ModelFit, state: str, accuracy: float | None = None) -> None:
        fit.state, fit.accuracy, fit.expired = state, accuracy, False
        trials = [self.trial_state(trial) for trial in range(self.trials)]
        if self.state == "cancelling":
            self.state = "cancelling" if self.running() else "cancelled"
        elif fit.fold is None:
            self.state = state
        elif self.most_failed is not None and trials.count("failed") > self.most_failed:
            self.close("failed")
        elif not {"queued", "running"} & set(trials):
            best, refits = self.best(), [one for one in self.fits if one.fold is None]
            if best is None:
                self.close("failed")
            elif refits:
                refits[0].trial = best[0]
            else:
                self.state = "succeeded"

    def put_back(self, fit: ModelFit, lost: bool) -> None:
        fit.lost += lost
        if self.state == "cancelling":
            self.end(fit, "cancelled")
        elif lost and fit.lost == MAX_LOST_ATTEMPTS:
            self.end(fit, "failed")
        else:
            fit.state, fit.expired = "queued", False


@dataclass(frozen=True)
class Held:
    """A claim and its fit in the model; kept after its end, so that late and repeated calls are tested too."""

    claim: Claim
    job: ModelJob
    fit: ModelFit
    message: str

    def mine(self) -> bool:
        return self.fit.state == "running" and self.fit.attempt == self.claim.attempt

    def recorded(self, state: str) -> bool:
        return self.fit.state == state and self.fit.attempt == self.claim.attempt


class Store(RuleBasedStateMachine):
    """Drives the store and the model side by side."""

    engine: Engine

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger(self.engine, audit_every=0)  # but once a step, below
        self.ledger.empty()
        self.jobs: dict[UUID, ModelJob] = {}
        self.mirrors: dict[UUID, Mirror] = {}
        self.held: list[Held] = []

    def pick(self, choice: Choice) -> list[Held]:
        """One of the claims that hold their fit, or one of those that have lost or ended it not long ago."""
        number, late = choice
        among = [one for one in reversed(self.held) if one.mine() != late]
        return among[number % min(len(among), 4) :][:1] if among else []

    def some_job(self, number: int) -> list[tuple[UUID, ModelJob]]:
        among = list(self.jobs.items())
        return [among[number % len(among)]] if among else []

    @initialize(**A_JOB)
    def post(self, trials: int, folds: int, refit: bool, parallel: int | None, most_failed: int | None) -> None:
        evaluation = {"cv": folds} if folds > 1 else {"validation_split": 0.5}
        limits = {"max_parallel_fits": parallel, "max_failed_trials": most_failed}
        job_id = self.ledger.post(grid(trials, evaluation={**evaluation, "refit": refit}, limits=limits))
        job = ModelJob(trials, folds, parallel, most_failed)
        job.fits = [ModelFit(trial, fold) for trial in range(trials) for fold in range(folds)]
        job.fits += [ModelFit(None, None)] * refit
        self.jobs[job_id] = job
        self.mirrors[job_id] = Mirror(self.engine, job_id)

    @precondition(lambda self: len(self.jobs) < 2)
    @rule(**A_JOB)
    def post_another(self, **shape: Any) -> None:
        self.post(**shape)

    @rule(number=NUMBER, times=st.integers(1, 3))
    def claim(self, number: int, times: int) -> None:
        for _ in range(times):
            self.take(number)

    @rule(number=NUMBER, accuracies=st.lists(st.sampled_from(ACCURACIES), min_size=3, max_size=7))
    def work(self, number: int, accuracies: list[float]) -> None:
        """Some fits that nothing happens to, so that a search comes to its end and to its refit."""
        for accuracy in accuracies:
            for one in self.take(number):
                self.end(one, accuracy)

    def take(self, number: int) -> list[Held]:
        for job_id, job in self.some_job(number):
            message = f"m{len(self.held)}"
            claim = self.ledger.do(claims.claim, job_id, "w1", message)
            assert (claim is None) == (not job.claimable())
            if claim:
                return [self.taken(claim, message)]
        return []

    def taken(self, claim: Claim, message: str) -> Held:
        job = self.jobs[claim.job_id]
        fit = job.claimable()[0]
        assert (claim.trial_number, claim.fold, claim.attempt) == (fit.trial, fit.fold, fit.attempt + 1)
        fit.state, fit.attempt, job.state = "running", fit.attempt + 1, "running"
        self.held.append(Held(claim, job, fit, message))
        return self.held[-1]

    def end(self, one: Held, accuracy: float) -> None:
        assert self.ledger.finish(one.claim, accuracy) == (one.mine() or one.recorded("succeeded"))
        if one.mine():
            one.job.end(one.fit, "succeeded", accuracy)

    @rule(choice=CHOICE, accuracy=st.sampled_from(ACCURACIES))
    def finish(self, choice: Choice, accuracy: float) -> None:
        for one in self.pick(choice):
            self.end(one, accuracy)

    @rule(choice=CHOICE, accuracy=st.sampled_from(ACCURACIES))
    def finish_and_claim(self, choice: Choice, accuracy: float) -> None:
        """In one transaction, as a worker goes from fit to fit."""
        for one in self.pick(choice):
            message = f"m{len(self.held)}"
            done, claim = self.ledger.do(finish_and_claim, one.claim, accuracy, message)
            assert done == (one.mine() or one.recorded("succeeded"))
            if one.mine():
                one.job.end(one.fit, "succeeded", accuracy)
            running = {job_id: len(job.running()) for job_id, job in self.jobs.items() if job.claimable()}
            if claim:
                assert running[claim.job_id] == min(running.values()), "it was another job's turn"
                self.taken(claim, message)
            elif done and running:
                assert one.claim.job_id not in running
                assert min(running.values()) >= len(one.job.running())

    @rule(choice=CHOICE)
    def renew(self, choice: Choice) -> None:
        for one in self.pick(choice):
            assert self.ledger.do(claims.renew, one.claim, 15.0) == one.mine()
            if one.mine():
                one.fit.expired = False

    @rule(choice=CHOICE)
    def fail(self, choice: Choice) -> None:
        for one in self.pick(choice):
            assert self.ledger.fail(one.claim) == (one.mine() or one.recorded("failed"))
            if one.mine():
                one.job.end(one.fit, "failed")

    @rule(choice=CHOICE)
    def release(self, choice: Choice) -> None:
        for one in self.pick(choice):
            done = self.ledger.do(outcomes.record, one.claim, Released())
            assert done or not one.mine()
            if one.mine():
                one.job.put_back(one.fit, lost=False)

    @rule(choice=CHOICE, outcome=st.sampled_from([Outcome.TIMED_OUT, Outcome.OUT_OF_MEMORY]))
    def lose(self, choice: Choice, outcome: Outcome) -> None:
        for one in self.pick(choice):
            done = self.ledger.lose(one.claim, outcome)
            assert done or not one.mine()
            if one.mine():
                one.job.put_back(one.fit, lost=True)

    @rule(choice=CHOICE)
    def die(self, choice: Choice) -> None:
        for one in self.pick(choice):
            assert (
                self.ledger.do(claims.record_process_death, one.message, "w1", Lost(Outcome.HUNG, GONE)) == one.mine()
            )
            if one.mine():
                one.job.put_back(one.fit, lost=True)

    @rule(choice=CHOICE, once_in_a_while=st.integers(0, 3))
    def lack(self, choice: Choice, once_in_a_while: int) -> None:
        """A worker has not the data; it is the only one, and gone afterwards."""
        for one in self.pick(choice)[once_in_a_while:]:
            done = self.ledger.do(outcomes.record, one.claim, Unavailable(BROKEN, "w1", "digits"))
            assert done or not one.mine()
            if one.mine():
                one.job.put_back(one.fit, lost=False)
                if one.job.state == "running" and not one.job.running():
                    one.job.close("failed")
            self.ledger.do(store.execute_change, delete(Worker))

    @rule(choice=CHOICE)
    def freeze(self, choice: Choice) -> None:
        """A worker says nothing until its lease has run out; it may thaw before or after that is seen."""
        for one in self.pick(choice):
            if one.mine():
                self.ledger.expire(one.claim.fit_id)
                one.fit.expired = True

    @rule()
    def run_housekeeping(self) -> None:
        long_ago = datetime.now(UTC) - timedelta(hours=1)
        with reading(self.engine) as session:
            late = [lease for lease in claims.list_leases(session) if lease.until < long_ago]
        lapsed = [self.ledger.do(claims.expire_lease, lease, GONE) for lease in late]
        for job in self.jobs.values():
            for fit in job.fits:
                if fit.state == "running" and fit.expired:
                    job.put_back(fit, lost=True)
                    assert lapsed.pop()
        assert not lapsed

    @rule(number=NUMBER, once_in_a_while=st.integers(0, 1))
    def cancel(self, number: int, once_in_a_while: int) -> None:
        for job_id, job in self.some_job(number)[once_in_a_while:]:
            if job.state in ("queued", "running"):
                self.ledger.cancel(job_id)
                for fit in job.fits:
                    fit.state = "cancelled" if fit.state == "queued" else fit.state
                job.state = "cancelling" if job.running() else "cancelled"

    @rule(choice=CHOICE)
    def stop(self, choice: Choice) -> None:
        """A worker stops where it has seen that the job is being cancelled."""
        for one in self.pick(choice):
            if one.job.state == "cancelling" or not one.mine():
                assert self.ledger.do(outcomes.record, one.claim, Cancelled()) == (
                    one.mine() or one.recorded("cancelled")
                )
                if one.mine():
                    one.job.end(one.fit, "cancelled")

    @rule(number=NUMBER)
    def remove(self, number: int) -> None:
        for job_id, job in self.some_job(number):
            if job.state not in OPEN:
                self.ledger.remove(job_id)
                del self.jobs[job_id]
                for fit in job.fits:
                    fit.state = "deleted"

    @invariant()
    def the_database_agrees(self) -> None:
        self.ledger.audit()
        for job_id, job in self.jobs.items():
            self.mirrors[job_id].look()
            row = self.ledger.job(job_id)
            assert row.state == job.state
            best = job.best()
            assert (row.best_trial, row.best_accuracy) == (best or (None, None))
            fits = self.ledger.fits(job_id)
            assert [_seen(fit) for fit in fits] == [
                (fit.trial, fit.fold, fit.state, fit.attempt, fit.accuracy) for fit in job.fits
            ]
            states = [trial.state for trial in self.ledger.trials(job_id)]
            assert states == [job.trial_state(trial) for trial in range(job.trials)]


def finish_and_claim(session: Session, mine: Claim, accuracy: float, message: str) -> tuple[bool, Claim | None]:
    """Record and claim as `worker.runner` does between two fits."""
    done = outcomes.record(session, mine, Finished(scored(accuracy)))
    return done, claims.claim_following(session, mine.job_id, "w1", message) if done else None


def _seen(fit: Fit) -> tuple[object, ...]:
    return fit.trial_number, fit.fold, str(fit.state), fit.attempt, fit.accuracy


def drive(engine: Engine, examples: int) -> None:
    """Run the machine on this database."""
    machine = type("StoreOnThis", (Store,), {"engine": engine})
    quick = settings(
        max_examples=examples,
        stateful_step_count=40,
        deadline=None,
        derandomize=True,
        database=None,
        report_multiple_bugs=False,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    run_machine(machine, settings=quick)


@pytest.mark.slow
def test_the_store_agrees_with_the_model(engine: Engine) -> None:
    drive(engine, 10 if engine.dialect.name == "postgresql" else 25)


@pytest.mark.slow
def test_without_the_attempt_check_the_model_finds_the_error(
    sqlite_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (claims, outcomes):
        monkeypatch.setattr(module, "fence", lambda attempt: (Fit.state == State.RUNNING, Fit.attempt > 0))
    with pytest.raises(AssertionError):
        drive(sqlite_engine, 200)
