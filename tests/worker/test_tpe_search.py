"""Model-based searches: the same table in whatever order fits end, no point twice, and an end when all are used up."""

import random
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from app.tuning.database import reading
from app.tuning.jobs import claims, outcomes, store
from app.tuning.jobs.births import find_birth
from app.tuning.jobs.claims import Claim
from app.tuning.jobs.extending import extend_job
from app.tuning.jobs.tables import JobState, Origin, State
from app.tuning.search.candidates import draw_candidates
from tests.support.ledger import Ledger, grid, scored, spec
from tests.worker.test_runner import run as run_worker
from worker.proposals import propose_candidate

SPACE = {
    "learning_rate": {"distribution": "loguniform", "low": 0.0001, "high": 0.1},
    "num_neurons": {"distribution": "randint", "low": 8, "high": 100},
    "optimizer": ["adam", "sgd"],
}
SEARCH: dict[str, Any] = {"strategy": "tpe", "param_distributions": SPACE, "n_iter": 14, "n_startup_trials": 5}
HYPERBAND: dict[str, Any] = {
    "strategy": "hyperband",
    "param_distributions": SPACE,
    "max_resources": 9,
    "sampler": "tpe",
    "points_to_evaluate": [{"num_neurons": 60}],
}
POINTS = {"strategy": "tpe", "param_distributions": {"l2": [0, 0.1], "num_neurons": [8, 16, 32]}, "n_startup_trials": 2}


def score(claim: Claim) -> float | None:
    """Best at 60 neurons; some trials fail."""
    draw = random.Random(f"{claim.params} {claim.n_resources}")
    neurons = int(claim.hyperparameters["num_neurons"])
    return None if draw.random() < 0.1 else round(0.9 - abs(neurons - 60) / 200 + draw.random() / 100, 6)


def bear(ledger: Ledger) -> bool:
    """Propose and record the next trial, as a worker does that finds nothing to claim."""
    with reading(ledger.engine) as session:
        birth = find_birth(session)
    if birth is None:
        return False
    candidate = propose_candidate(birth)
    assert ledger.do(outcomes.record_birth, birth.job_id, birth.number, candidate)
    assert not ledger.do(outcomes.record_birth, birth.job_id, birth.number, candidate), "somebody else was first"
    return True


def table(ledger: Ledger, job_id: UUID) -> Any:
    job = ledger.job(job_id)
    rows = [(one.number, one.params, one.state, one.origin, one.validation_accuracy) for one in ledger.trials(job_id)]
    return rows, job.state, job.best_trial


def test_the_table_is_the_same_in_whatever_order_fits_end(engine: Engine) -> None:
    tables = []
    for seed, workers in ((0, 1), (1, 2), (2, 4)):
        ledger = Ledger(engine, audit_every=10)
        job_id = ledger.post(spec(SEARCH, evaluation={"cv": 2}, random_state=3))
        ledger.train(job_id, score, random.Random(seed), workers, bear)
        ledger.audit()
        tables.append(table(ledger, job_id))
    assert tables[1] == tables[0]
    assert tables[2] == tables[0]
    rows, state, _ = tables[0]
    assert state == JobState.SUCCEEDED
    assert [row[3] for row in rows] == [Origin.STARTUP] * 5 + [Origin.MODEL] * 9
    assert len({str(row[1]) for row in rows}) == 14


def test_the_brackets_are_the_same_in_whatever_order_fits_end(engine: Engine) -> None:
    tables = []
    for seed, workers in ((0, 1), (1, 2), (2, 4)):
        ledger = Ledger(engine, audit_every=25)
        job_id = ledger.post(spec(HYPERBAND, evaluation={"cv": 2}, random_state=3))
        ledger.train(job_id, score, random.Random(seed), workers, bear)
        ledger.audit()
        tables.append((table(ledger, job_id), [(one.bracket, one.iter) for one in ledger.trials(job_id)]))
    assert tables[1] == tables[0]
    assert tables[2] == tables[0]
    (rows, state, _), places = tables[0]
    assert state == JobState.SUCCEEDED
    # Brackets of 9, 5 and 3: all of the first and a third of the others, rounded up, are drawn at random.
    assert [bracket for bracket, _ in places] == [0] * 9 + [1] * 5 + [2] * 3
    random_draws = [Origin.GIVEN, *[Origin.STARTUP] * 8, *[Origin.STARTUP] * 2, *[Origin.MODEL] * 3]
    assert [row[3] for row in rows] == [*random_draws, Origin.STARTUP, *[Origin.MODEL] * 2]
    assert len({str(row[1]) for row in rows}) == 17


def test_a_bracket_is_proposed_once_those_before_it_have_ended(sqlite_engine: Engine) -> None:
    ledger = Ledger(sqlite_engine, audit_every=25)
    job_id = ledger.post(spec(HYPERBAND, evaluation={"validation_split": 0.5}))
    while claim := ledger.do(claims.claim, job_id, "w1", "m1"):
        assert not bear(ledger)
        ledger.finish(claim, 0.5)
    assert {one.state for one in ledger.trials(job_id) if one.bracket == 0} == {State.PRUNED, State.SUCCEEDED}
    assert [bear(ledger) for _ in range(4)] == [True] * 3 + [False]
    assert [one.bracket for one in ledger.trials(job_id) if one.origin == Origin.MODEL and one.params] == [1] * 3


def test_brackets_are_full_even_if_a_point_comes_twice(engine: Engine) -> None:
    ledger = Ledger(engine, audit_every=25)
    space = {"num_neurons": list(range(8, 25))}
    search = {**HYPERBAND, "param_distributions": space, "points_to_evaluate": []}
    job_id = ledger.post(spec({**search, "forbidden": [{"num_neurons": {"gt": 20}}]}, evaluation={"cv": 2}))
    ledger.train(job_id, score, random.Random(0), 4, bear)
    trials = ledger.trials(job_id)
    assert (len(trials), ledger.job(job_id).state) == (17, JobState.SUCCEEDED)
    assert {one.params["num_neurons"] for one in trials} == set(range(8, 21))


def test_a_search_learns_from_ended_ones_as_they_were(engine: Engine) -> None:
    ledger = Ledger(engine, audit_every=25)
    first = ledger.post(spec(SEARCH, evaluation={"cv": 2}))
    ledger.train(first, lambda claim: None if claim.trial_number == 3 else score(claim), random.Random(0), 4, bear)
    search = {**SEARCH, "n_iter": 4, "n_startup_trials": 1}
    warm, cold = (
        ledger.post(spec(search, evaluation={"cv": 2}, **more)) for more in ({"warm_start": {"jobs": [str(first)]}}, {})
    )
    known = [(one.params, one.validation_score) for one in ledger.trials(first)]
    ledger.remove(first)
    with reading(engine) as session:
        birth = find_birth(session)
    assert birth and birth.job_id == warm
    assert [({name: params[name] for name in SPACE}, value) for params, value in birth.history] == known
    assert None in [value for _, value in birth.history]
    ledger.train(cold, score, random.Random(0), 1, bear)
    assert ledger.trials(warm)[1].params != ledger.trials(cold)[1].params


@pytest.mark.parametrize("first", [3, 8])
def test_an_extended_search_has_the_rows_of_one_posted_so(first: int, engine: Engine) -> None:
    ledger = Ledger(engine, audit_every=10)
    whole, part = (spec({**SEARCH, "n_iter": number}, evaluation={"cv": 2}) for number in (11, first))
    expected, job_id = ledger.post(whole), ledger.post(part)
    ledger.train(expected, score, random.Random(0), 2, bear)
    ledger.train(job_id, score, random.Random(1), 2, bear)

    def extend(session: Session) -> None:
        job = store.lock_job(session, job_id)
        assert job is not None
        extend_job(session, job, part, whole, draw_candidates(whole))

    ledger.do(extend)
    ledger.train(job_id, score, random.Random(2), 2, bear)
    ledger.audit()
    assert table(ledger, job_id) == table(ledger, expected)


def test_the_window_decides_what_a_trial_knows(sqlite_engine: Engine) -> None:
    ledger = Ledger(sqlite_engine)
    job_id = ledger.post(spec({**SEARCH, "max_concurrent_trials": 2}, evaluation={"validation_split": 0.5}))
    held = [ledger.claim(job_id) for _ in range(5)]
    for claim in sorted(held, key=lambda claim: claim.trial_number)[:3]:
        ledger.finish(claim, 0.5)
    assert not bear(ledger)  # of trials 0 to 3, which trial 5 depends on, one is still being trained
    ledger.finish(next(claim for claim in held if claim.trial_number == 3), 0.5)
    assert bear(ledger)
    assert not bear(ledger)
    assert ledger.claim(job_id).trial_number == 5


def test_the_first_trials_are_those_of_a_random_search(sqlite_engine: Engine) -> None:
    ledger = Ledger(sqlite_engine)
    drawn = ledger.post(spec({"strategy": "random", "param_distributions": SPACE, "n_iter": 5}))
    job_id = ledger.post(spec(SEARCH))
    assert [one.params for one in ledger.trials(job_id)][:5] == [one.params for one in ledger.trials(drawn)]
    assert ledger.job(job_id).unborn == 9


def test_a_search_ends_when_every_point_is_used_up(engine: Engine) -> None:
    ledger = Ledger(engine)
    forbidden = [{"l2": 0.1, "num_neurons": 8}]
    search = {**POINTS, "n_iter": 6, "forbidden": forbidden}
    job_id = ledger.post(spec(search, evaluation={"validation_split": 0.5}))
    ledger.train(job_id, score, random.Random(0), 2, bear)
    job, trials = ledger.job(job_id), ledger.trials(job_id)
    born = [one for one in trials if one.params]
    assert len({str(one.params) for one in born}) == len(born) == 5
    assert not [one for one in born if one.params == forbidden[0]]
    assert (job.state, job.trials_cancelled, job.unborn) == (JobState.SUCCEEDED, 1, 0)
    assert (trials[5].state, (trials[5].error or {})["type"]) == (State.CANCELLED, "SpaceUsedUp")


def test_a_search_is_cancelled_with_its_unborn_trials(engine: Engine) -> None:
    ledger = Ledger(engine)
    job_id = ledger.post(spec(SEARCH))
    held = ledger.claim(job_id)
    ledger.cancel(job_id)
    assert not bear(ledger)
    assert ledger.finish(held, 0.5)
    assert (ledger.job(job_id).state, ledger.job(job_id).trials_cancelled) == (JobState.CANCELLED, 14)


@pytest.mark.slow
def test_workers_propose_what_they_train(engine: Engine) -> None:
    """The loop of a real worker, with a training function that is an argument."""
    ledger = Ledger(engine, audit_every=0)
    job_id = ledger.post(spec({**SEARCH, "n_iter": 8}, evaluation={"validation_split": 0.5}))
    assert run_worker(engine, lambda claim, _: scored(0.5 + claim.trial_number / 100), most=50) == 9
    job = ledger.job(job_id)
    assert (job.state, job.trials_succeeded, job.best_trial) == (JobState.SUCCEEDED, 8, 7)
    ledger.audit()


def test_a_search_is_not_kept_waiting_by_jobs_that_always_have_fits(engine: Engine) -> None:
    ledger = Ledger(engine, audit_every=0)
    other = ledger.post(grid(30, evaluation={"validation_split": 0.5}))
    job_id = ledger.post(spec({**SEARCH, "n_iter": 8}, evaluation={"validation_split": 0.5}))
    assert run_worker(engine, lambda claim, _: scored(0.5), most=20) == 20
    assert ledger.job(job_id).state == JobState.SUCCEEDED
    assert ledger.job(other).fits_succeeded == 11
    ledger.audit()
