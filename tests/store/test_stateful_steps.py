"""Searches by steps in any order of events: the table is that of a search that was trained one fit after the other."""

import random
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run_machine
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from app.tuning.database import reading
from app.tuning.jobs import claims, control, outcomes, store
from app.tuning.jobs.attempts import Lost, Released
from app.tuning.jobs.claims import Claim
from app.tuning.jobs.extending import extend_job
from app.tuning.jobs.tables import ENDED_JOB, JobState, Outcome, State
from app.tuning.search.candidates import draw_candidates
from app.tuning.search.spec import JobSpec
from tests.api.test_extending import CASES, score
from tests.store.test_steps import SEARCHES, table
from tests.support.ledger import GONE, Ledger, spec
from tests.worker.test_tpe_search import HYPERBAND, SEARCH, bear

FIXED = ("race", "halving with a race", "aggressive", "hyperband", "one standard error")
SPECS: dict[str, tuple[JobSpec, JobSpec]] = {
    **{name: (spec(search), spec({**search, **extension})) for name, (search, extension) in CASES.items()},
    **{name: (spec(search, **changes),) * 2 for name, (search, changes) in SEARCHES.items() if name in FIXED},
    "more proposals": (spec({**SEARCH, "n_iter": 7}), spec({**SEARCH, "n_iter": 10})),
    "proposed brackets": (spec({**HYPERBAND, "max_resources": 3}),) * 2,
}
NUMBER = st.integers(0, 5)
LOSSES = 2  # of a fit: after a third one it would have failed


class Steps(RuleBasedStateMachine):
    """Trains a job in any order, with kills, pauses and extensions, beside one that was trained in order."""

    engine: Engine

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger(self.engine, audit_every=0)  # but once a step, below
        self.ledger.empty()
        self.held: list[Claim] = []
        self.paused = False

    @initialize(name=st.sampled_from(sorted(SPECS)))
    def post(self, name: str) -> None:
        self.spec, self.final = SPECS[name]
        reference = self.ledger.post(self.final)
        self.ledger.train(reference, score, random.Random(0), workers=1, bear=bear)
        self.expected = table(self.ledger, reference)
        self.known = self.list_trained(reference)
        self.job_id = self.ledger.post(self.spec)

    def list_trained(self, job_id: UUID) -> set[tuple[Any, ...]]:
        """What has been trained, by hyperparameters: an extension may change numbers."""
        params = {one.number: str(one.params) for one in self.ledger.trials(job_id)}
        fits = (one for one in self.ledger.fits(job_id) if one.attempt and one.fold is not None)
        return {(params[one.trial_number or 0], one.fold, one.n_resources) for one in fits}

    def pick(self, number: int) -> list[Claim]:
        return self.held[number % len(self.held) :][:1] if self.held else []

    @rule(times=st.integers(1, 4))
    def claim(self, times: int) -> None:
        for _ in range(times):
            claim = self.ledger.do(claims.claim, self.job_id, "w1", f"m{len(self.held)}")
            assert not (claim and self.paused)
            self.held += [claim] if claim else []

    @rule(fits=st.integers(3, 9))
    def work(self, fits: int) -> None:
        """Some fits that nothing happens to, so that searches come to their later steps."""
        for _ in range(fits):
            if claim := self.ledger.do(claims.claim, self.job_id, "w1", "m1"):
                self.finish(claim)
            else:
                self.propose()

    @rule()
    def propose(self) -> None:
        assert not (bear(self.ledger) and self.paused)

    def holds(self, claim: Claim) -> bool:
        fit = self.ledger.fit(claim.fit_id)
        return fit.state == State.RUNNING and fit.attempt == claim.attempt

    def finish(self, claim: Claim) -> None:
        accuracy, mine = score(claim), self.holds(claim)
        recorded = self.ledger.fail(claim) if accuracy is None else self.ledger.finish(claim, accuracy)
        assert recorded or not mine

    @rule(number=NUMBER, twice=st.booleans())
    def end(self, number: int, twice: bool) -> None:
        """A fit ends; if its COMMIT's response was lost, it is recorded twice."""
        for claim in self.pick(number):
            for _ in range(1 + twice):
                self.finish(claim)
            self.held.remove(claim)

    @rule(number=NUMBER, how=st.sampled_from([Lost(Outcome.HUNG, GONE), Lost(Outcome.LOST, GONE), Released()]))
    def stop(self, number: int, how: Lost | Released) -> None:
        for claim in self.pick(number):
            if isinstance(how, Released) or self.ledger.fit(claim.fit_id).lost_attempts < LOSSES:
                self.ledger.do(outcomes.record, claim, how)
                self.held.remove(claim)

    @rule(number=NUMBER)
    def freeze(self, number: int) -> None:
        """A lease runs out, and its worker comes back late."""
        for claim in self.pick(number):
            if self.holds(claim) and self.ledger.fit(claim.fit_id).lost_attempts < LOSSES:
                self.ledger.expire(claim.fit_id)
                with reading(self.engine) as session:
                    [lease] = [one for one in claims.list_leases(session) if one.key.fit_id == claim.fit_id]
                assert self.ledger.do(claims.expire_lease, lease, GONE)

    @rule()
    def pause(self) -> None:
        if self.ledger.job(self.job_id).state not in ENDED_JOB:
            self.ledger.do(lambda session: control.pause(self.lock(session)))
            self.paused = True

    @precondition(lambda self: self.paused)
    @rule()
    def resume(self) -> None:
        if self.ledger.job(self.job_id).state == JobState.PAUSED:
            self.ledger.do(lambda session: control.resume(self.lock(session)))
        self.paused = False

    @precondition(lambda self: self.spec != self.final)
    @rule()
    def extend(self) -> None:
        was, self.spec = self.spec, self.final
        candidates = draw_candidates(self.final)
        try:
            self.ledger.do(lambda session: extend_job(session, self.lock(session), was, self.final, candidates))
        except control.NotPossible as error:
            assert "is being trained" in str(error)
            assert any(claim.fold is None for claim in self.held)
            self.spec = was

    @rule()
    def retry(self) -> None:
        job = self.ledger.job(self.job_id)
        try:
            self.ledger.do(lambda session: control.retry_failed_fits(session, self.lock(session)))
        except control.NotPossible:
            training = any(claim.fold is None for claim in self.held)
            assert not job.fits_failed or self.spec.is_adaptive or training

    def lock(self, session: Session) -> Any:
        return store.lock_job(session, self.job_id)

    @invariant()
    def only_what_the_search_needs_is_trained(self) -> None:
        self.ledger.audit()
        assert self.list_trained(self.job_id) <= self.known

    def teardown(self) -> None:
        if not hasattr(self, "expected"):
            return
        self.resume()
        for claim in self.held:
            self.finish(claim)
        if self.spec != self.final:
            self.extend()
        self.ledger.train(self.job_id, score, random.Random(1), bear=bear)
        self.ledger.audit()
        assert table(self.ledger, self.job_id) == self.expected


def drive(engine: Engine, examples: int) -> None:
    machine = type("StepsOnThis", (Steps,), {"engine": engine})
    quick = settings(
        max_examples=examples,
        stateful_step_count=25,
        deadline=None,
        derandomize=True,
        database=None,
        report_multiple_bugs=False,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    run_machine(machine, settings=quick)


@pytest.mark.slow
def test_the_table_is_that_of_a_search_trained_in_order(engine: Engine) -> None:
    drive(engine, 4 if engine.dialect.name == "postgresql" else 12)


@pytest.mark.slow
def test_the_machine_notices_a_rung_that_is_filled_too_early(
    sqlite_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.tuning.jobs.steps.decide_early", lambda means, ended, places: (range(places), range(0)))
    with pytest.raises(AssertionError):
        drive(sqlite_engine, 200)
