"""Claims: the order, the lease, and the attempt number that fences off late writes."""

from collections.abc import Callable

import pytest
from sqlalchemy import Engine, select, update

from app.tuning.database import clock, reading, writing
from app.tuning.jobs import claims, outcomes, store
from app.tuning.jobs.attempts import AttemptKey, Cancelled, Finished, Lost, Released, Result, Unavailable
from app.tuning.jobs.claims import LEASE_SECONDS, Claim
from app.tuning.jobs.outcomes import MAX_LOST_ATTEMPTS
from app.tuning.jobs.tables import EpochRow, Fit, Job, JobState, Outcome, State
from app.tuning.search.spec import JobSpec
from tests.support.ledger import BROKEN, GONE, Ledger, grid, scored, spec

Act = Callable[[Ledger, Claim], bool]
EPOCHS = [
    {"epoch": n, "loss": 1.0, "accuracy": 0.5, "val_loss": None, "val_accuracy": None, "seconds": 0.1} for n in (1, 2)
]
ACTS: dict[str, Act] = {
    "finish": lambda ledger, hold: ledger.do(outcomes.record, hold, Finished(scored(0.99), EPOCHS)),
    "fail": lambda ledger, hold: ledger.fail(hold),
    "renew": lambda ledger, hold: ledger.do(claims.renew, hold, 60.0, EPOCHS),
    "release": lambda ledger, hold: ledger.do(outcomes.record, hold, Released()),
    "lose": lambda ledger, hold: ledger.lose(hold),
    "stop": lambda ledger, hold: ledger.do(outcomes.record, hold, Cancelled()),
    "lack": lambda ledger, hold: ledger.do(outcomes.record, hold, Unavailable(BROKEN, "w9", "digits")),
}


def epochs(ledger: Ledger, fit_id: int) -> list[int]:
    with reading(ledger.engine) as session:
        mine = select(EpochRow.epoch).where(EpochRow.fit_id == fit_id)
        return list(session.scalars(mine.order_by(EpochRow.epoch)))


def test_the_longest_fits_are_claimed_first_and_the_folds_of_a_trial_in_order(engine: Engine) -> None:
    ledger = Ledger(engine)
    search = {"strategy": "grid", "param_grid": {"num_neurons": [16, 64, 64, 8]}}
    job_id = ledger.post(spec(search, evaluation={"cv": 2}))
    order = [(claim.trial_number, claim.fold) for claim in (ledger.claim(job_id) for _ in range(8))]
    assert order == [(1, 0), (1, 1), (2, 0), (2, 1), (0, 0), (0, 1), (3, 0), (3, 1)]
    assert ledger.none_to_claim(job_id), "the refit has no trial yet"


def test_an_attempt_that_succeeded_names_its_processor(engine: Engine) -> None:
    ledger = Ledger(engine)
    job_id = ledger.post(grid(1))
    first = ledger.claim(job_id)
    assert ledger.do(outcomes.record, first, Released())
    again = ledger.claim(job_id)
    result = Result(0.5, 1.0, 2.0, 0.5, {"processor": "AMD EPYC (avx512f)"})
    assert ledger.do(outcomes.record, again, Finished(result))
    assert [attempt.processor for attempt in ledger.attempts(again.fit_id)] == [None, "AMD EPYC (avx512f)"]


def test_a_claim_holds_all_that_training_needs(engine: Engine) -> None:
    ledger, posted = Ledger(engine), grid(1, fixed={"epochs": 2, "learning_rate": 0.25}, random_state=7)
    job_id = ledger.post(posted)
    claim = ledger.claim(job_id, "host-1", "message-1")
    assert (claim.job_id, claim.attempt, claim.trial_number, claim.fold) == (job_id, 1, 0, 0)
    assert claim.spec == posted
    assert claim.params == {"num_neurons": 8}
    assert {name: claim.hyperparameters[name] for name in ("num_neurons", "epochs", "learning_rate", "filters")} == {
        "num_neurons": 8,
        "epochs": 2,
        "learning_rate": 0.25,
        "filters": 32,
    }
    job, fit, [attempt] = ledger.job(job_id), ledger.fit(claim.fit_id), ledger.attempts(claim.fit_id)
    assert (job.state, job.trials_running, job.fits_running) == (JobState.RUNNING, 1, 1)
    assert job.started_at == job.last_claim_at == fit.started_at == attempt.started_at
    assert (fit.worker, attempt.worker, attempt.message_id) == ("host-1", "host-1", "message-1")


def test_a_lease_lasts_from_its_last_renewal(engine: Engine) -> None:
    ledger = Ledger(engine)
    claim = ledger.claim(ledger.post(grid(1)))

    def lease(seconds: float) -> bool:
        """Whether it runs out within so many seconds, and not ten sooner."""
        with reading(engine) as session:
            until = Fit.lease_until.between(clock(seconds - 10), clock(seconds))
            return bool(session.scalar(select(until).where(Fit.id == claim.fit_id)))

    assert lease(LEASE_SECONDS)
    assert ledger.do(claims.renew, claim, 600.0)
    assert lease(600)
    assert ledger.do(claims.renew, claim, LEASE_SECONDS)
    assert lease(LEASE_SECONDS)


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("now", ["queued", "claimed again", "succeeded", "failed"])
def test_a_late_write_changes_nothing(sqlite_engine: Engine, act: str, now: str) -> None:
    assert_fenced(Ledger(sqlite_engine), act, now)


@pytest.mark.parametrize("act", ACTS)
def test_a_late_write_changes_nothing_on_either_database(engine: Engine, act: str) -> None:
    assert_fenced(Ledger(engine), act, "claimed again")


def assert_fenced(ledger: Ledger, act: str, now: str) -> None:
    job_id = ledger.post(grid(1))
    late = ledger.claim(job_id)
    ledger.do(claims.renew, late, 15.0, EPOCHS[:1])
    ledger.lose(late)
    if now != "queued":
        again = ledger.claim(job_id, "w2", "m2")
        assert (again.fit_id, again.attempt) == (late.fit_id, 2)
        assert now != "succeeded" or ledger.finish(again, 0.5)
        assert now != "failed" or ledger.fail(again)
    before = seen(ledger, job_id)
    assert not ACTS[act](ledger, late)
    assert seen(ledger, job_id) == before
    assert epochs(ledger, late.fit_id) == []


def seen(ledger: Ledger, job_id: object) -> str:
    """Every column of a job, its fits and its attempts."""
    with reading(ledger.engine) as session:
        rows = [*session.scalars(select(Job)), *session.scalars(select(Fit).order_by(Fit.id))]
        attempts = [attempt for fit in rows[1:] if isinstance(fit, Fit) for attempt in ledger.attempts(fit.id)]
        return str([[getattr(row, column.key) for column in row.__mapper__.columns] for row in [*rows, *attempts]])


@pytest.mark.parametrize("act", ["finish", "fail", "stop"])
def test_recording_the_same_outcome_of_an_attempt_twice_succeeds(engine: Engine, act: str) -> None:
    ledger = Ledger(engine)
    job_id = ledger.post(grid(2))
    claim = ledger.claim(job_id)
    assert ACTS[act](ledger, claim)
    before = seen(ledger, job_id)
    assert ACTS[act](ledger, claim), "the response to the first COMMIT may have been lost"
    assert seen(ledger, job_id) == before


def test_recording_another_outcome_of_an_ended_attempt_fails(engine: Engine) -> None:
    ledger = Ledger(engine)
    job_id = ledger.post(grid(2))
    failed, finished = ledger.claim(job_id), ledger.claim(job_id)
    ledger.fail(failed)
    ledger.finish(finished, 0.5)
    assert not ledger.finish(failed)
    assert not ledger.fail(finished)


def test_epochs_that_are_written_twice_are_stored_once(engine: Engine) -> None:
    ledger = Ledger(engine)
    claim = ledger.claim(ledger.post(grid(1)))
    assert ledger.do(claims.renew, claim, 15.0, EPOCHS[:1])
    assert ledger.do(claims.renew, claim, 15.0, EPOCHS), "the response to the first COMMIT may have been lost"
    assert ledger.do(outcomes.record, claim, Finished(scored(0.5), EPOCHS[1:]))
    assert epochs(ledger, claim.fit_id) == [1, 2]


def test_a_fit_keeps_the_epochs_of_its_last_attempt(engine: Engine) -> None:
    ledger = Ledger(engine)
    job_id = ledger.post(grid(1))
    claim = ledger.claim(job_id)
    ledger.do(claims.renew, claim, 15.0, EPOCHS)
    ledger.lose(claim)
    assert epochs(ledger, claim.fit_id) == []
    ledger.do(outcomes.record, ledger.claim(job_id), Finished(scored(0.5), EPOCHS[:1]))
    assert epochs(ledger, claim.fit_id) == [1]


def test_three_lost_attempts_fail_the_fit_with_the_reason(engine: Engine) -> None:
    ledger = Ledger(engine)
    job_id = ledger.post(grid(1, evaluation={"cv": 2}))
    outcomes = [Outcome.LOST, Outcome.HUNG, Outcome.OUT_OF_MEMORY]
    for attempt, outcome in enumerate(outcomes, 1):
        claim = ledger.claim(job_id)
        assert (claim.attempt, claim.fold) == (attempt, 0), "it goes back to its place in the queue"
        assert ledger.lose(claim, outcome)
    fit = ledger.fit(claim.fit_id)
    assert fit.state == State.FAILED and fit.error
    assert fit.error["message"] == "given up after 3 lost attempts, the last one: no sign of life"
    attempts = ledger.attempts(claim.fit_id)
    assert [attempt.outcome for attempt in attempts] == outcomes
    assert [attempt.error for attempt in attempts[:2]] == [GONE, GONE]
    assert ledger.claim(job_id).fold == 1, "the other fold is trained all the same"


def test_releasing_a_fit_costs_no_attempt(engine: Engine) -> None:
    ledger = Ledger(engine)
    job_id = ledger.post(grid(1))
    for _ in range(MAX_LOST_ATTEMPTS + 2):
        claim = ledger.claim(job_id)
        assert ledger.do(outcomes.record, claim, Released())
    fit = ledger.fit(claim.fit_id)
    assert (fit.state, fit.attempt, fit.lost_attempts) == (State.QUEUED, MAX_LOST_ATTEMPTS + 2, 0)
    assert {attempt.outcome for attempt in ledger.attempts(claim.fit_id)} == {Outcome.RELEASED}


def test_a_job_keeps_its_limit_of_parallel_fits(engine: Engine) -> None:
    ledger = Ledger(engine)
    job_id = ledger.post(grid(3, limits={"max_parallel_fits": 2}))
    with reading(engine) as session:
        assert claims.list_claimable(session) == [(job_id, 2)]
    first = ledger.claim(job_id)
    ledger.claim(job_id)
    assert ledger.none_to_claim(job_id)
    with reading(engine) as session:
        assert claims.list_claimable(session) == []
    ledger.finish(first)
    assert ledger.claim(job_id)
    assert ledger.none_to_claim(job_id)


def test_the_job_with_the_fewest_running_fits_is_claimed_from_first(engine: Engine) -> None:
    ledger = Ledger(engine)
    jobs = [ledger.post(grid(3)) for _ in range(3)]
    with writing(engine) as session:
        for age, job_id in zip((10, 30, 20), jobs, strict=True):
            store.execute_change(session, update(Job).where(Job.id == job_id).values(created_at=clock(-age)))
    turns = []
    for _ in range(7):
        with reading(engine) as session:
            next_job = claims.list_claimable(session)[0][0]
        turns.append(jobs.index(next_job))
        claimed = ledger.claim(next_job)
        with writing(engine) as session:  # a second apart
            moments = {"created_at": clock(-60), "last_claim_at": Job.last_claim_at}
            store.execute_change(session, update(Job).where(Job.id == claimed.job_id).values(moments))
    assert turns[:3] == [1, 2, 0], "the longest waiting first"
    assert sorted(turns[3:6]) == [0, 1, 2]
    fewest = jobs[turns[6]]
    assert ledger.job(fewest).fits_running == 3


def test_jobs_without_claimable_fits_are_not_listed(engine: Engine) -> None:
    ledger = Ledger(engine)
    cancelled, ended, held = (ledger.post(grid(1, evaluation={"cv": 2, "refit": False})) for _ in range(3))
    ledger.cancel(cancelled)
    ledger.finish_search(ended, lambda *_: 0.5)
    for _ in range(2):
        ledger.claim(held)
    with reading(engine) as session:
        assert claims.list_claimable(session) == []


def test_a_lease_expires_only_if_it_was_not_renewed_since_it_was_read(engine: Engine) -> None:
    ledger = Ledger(engine)
    job_id = ledger.post(grid(2))
    late, alive = ledger.claim(job_id), ledger.claim(job_id)
    with reading(engine) as session:
        seen = {lease.key: lease for lease in claims.list_leases(session)}
    assert set(seen) == {AttemptKey(job_id, one.fit_id, 1) for one in (late, alive)}
    ledger.do(claims.mark_overdue, seen.values())
    assert ledger.do(claims.renew, alive, LEASE_SECONDS), "it was not requeued: it is still the worker's"
    lapsed = [ledger.do(claims.expire_lease, seen[AttemptKey(job_id, one.fit_id, 1)], GONE) for one in (late, alive)]
    assert lapsed == [True, False]
    assert not ledger.do(claims.expire_lease, seen[AttemptKey(job_id, late.fit_id, 1)], GONE), "once"
    assert [ledger.fit(one.fit_id).state for one in (late, alive)] == [State.QUEUED, State.RUNNING]


def test_the_death_of_a_process_is_recorded_by_its_message(engine: Engine) -> None:
    ledger = Ledger(engine)
    job_id = ledger.post(grid(2))
    ledger.finish(ledger.claim(job_id, "w1", "m1"))
    mine, other, elsewhere = (ledger.claim(job_id, w, m) for w, m in (("w1", "m1"), ("w1", "m2"), ("w2", "m1")))
    assert ledger.do(claims.record_process_death, "m1", "w1", Lost(Outcome.HUNG, GONE))
    assert ledger.attempts(mine.fit_id)[0].outcome == Outcome.HUNG
    states = [ledger.fit(one.fit_id).state for one in (mine, other, elsewhere)]
    assert states == [State.QUEUED, State.RUNNING, State.RUNNING]
    assert not ledger.do(claims.record_process_death, "m1", "w1", Lost(Outcome.HUNG, GONE)), "it held nothing more"
    assert not ledger.do(claims.record_process_death, "stray", "w1", Lost(Outcome.HUNG, GONE))


def test_a_death_gives_its_reason_even_after_the_lease_has_expired(engine: Engine) -> None:
    ledger = Ledger(engine)
    job_id = ledger.post(grid(1))
    claim = ledger.claim(job_id, "w1", "m1")
    ledger.lose(claim)
    again = ledger.claim(job_id, "w2", "m2")
    assert not ledger.do(
        claims.record_process_death, "m1", "w1", Lost(Outcome.OUT_OF_MEMORY, GONE | {"message": "killed"})
    )
    first, second = ledger.attempts(claim.fit_id)
    assert first.outcome == Outcome.OUT_OF_MEMORY and first.error and first.error["message"] == "killed"
    assert second.outcome is None
    assert ledger.finish(again)


def test_a_death_explains_only_the_last_attempt_of_its_message(engine: Engine) -> None:
    ledger = Ledger(engine)
    job_id = ledger.post(grid(1))
    claim = ledger.claim(job_id, "w1", "m1")
    for _ in range(2):
        ledger.lose(claim)
        claim = ledger.claim(job_id, "w1", "m1")
    ledger.lose(claim)
    ledger.do(claims.record_process_death, "m1", "w1", Lost(Outcome.HUNG, GONE))
    outcomes = [one.outcome for one in ledger.attempts(claim.fit_id)]
    assert outcomes == [Outcome.LOST, Outcome.LOST, Outcome.HUNG]


def test_a_death_on_a_duplicate_message_is_left_to_the_leases(engine: Engine) -> None:
    ledger = Ledger(engine)
    job_id = ledger.post(grid(1))
    held = [ledger.claim(job_id, "w1", "twice") for _ in range(2)]
    assert not ledger.do(claims.record_process_death, "twice", "w1", Lost(Outcome.LOST, GONE)), (
        "nobody knows which of the two it was"
    )
    assert [ledger.finish(claim) for claim in held] == [True, True]


def test_a_spec_is_read_back_as_it_was_posted(engine: Engine) -> None:
    ledger = Ledger(engine)
    search = {
        "strategy": "random",
        "param_distributions": [
            {"learning_rate": {"distribution": "loguniform", "low": 1e-17, "high": 1}},
            {"num_neurons": {"distribution": "randint", "low": 1, "high": 4097}, "optimizer": ["sgd"]},
        ],
        "n_iter": 5,
    }
    posted = spec(search, random_state=2**32 - 1, evaluation={"validation_split": 0.1}, labels={"team": "vision"})
    claim = ledger.claim(ledger.post(posted))
    assert isinstance(claim.spec, JobSpec) and claim.spec == posted
    with reading(engine) as session:
        job = session.get_one(Job, claim.job_id)
        assert JobSpec.model_validate(job.spec).model_dump_json() == posted.model_dump_json()
