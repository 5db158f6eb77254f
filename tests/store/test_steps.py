"""Races and rungs in the database: the same table in whatever order fits end, and the counters always right."""

import random
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, func, select

from app.tuning.database import reading
from app.tuning.jobs import queries
from app.tuning.jobs.claims import Claim
from app.tuning.jobs.tables import Fit, Job, JobState, Place, State
from tests.support.ledger import Ledger, Score, spec

NEURONS = {"num_neurons": [8 * number for number in range(1, 13)]}
DRAWN = {"num_neurons": {"distribution": "randint", "low": 8, "high": 100}}
RACE = {"cv": 3, "race": {"method": "lossless"}}
SEARCHES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "race": ({"strategy": "grid", "param_grid": NEURONS}, {"evaluation": RACE}),
    "race without refit": ({"strategy": "grid", "param_grid": NEURONS}, {"evaluation": {**RACE, "refit": False}}),
    "halving over epochs": ({"strategy": "halving_grid", "param_grid": NEURONS, "max_resources": 9}, {}),
    "halving with a race": (
        {"strategy": "halving_grid", "param_grid": NEURONS, "max_resources": 9},
        {"evaluation": {**RACE, "cv": 5}},
    ),
    "halving over samples": (
        {"strategy": "halving_random", "param_distributions": DRAWN, "resource": "n_samples", "n_candidates": 9},
        {},
    ),
    "halving over folds": (
        {"strategy": "halving_grid", "param_grid": NEURONS, "resource": "folds", "factor": 2},
        {"evaluation": {"cv": 5}},
    ),
    "aggressive": (
        {
            "strategy": "halving_grid",
            "param_grid": NEURONS,
            "max_resources": 3,
            "aggressive_elimination": True,
            "min_resources": "smallest",
        },
        {},
    ),
    "levels": ({"strategy": "halving_grid", "param_grid": NEURONS, "rung_levels": [1, 9], "factor": 9}, {}),
    "hyperband": ({"strategy": "hyperband", "param_distributions": DRAWN, "max_resources": 9}, {}),
    "one standard error": (
        {"strategy": "grid", "param_grid": NEURONS},
        {"evaluation": {"cv": 3, "select": "one_standard_error"}},
    ),
}


def make_score(seed: int, failing: float) -> Score:
    """Accuracies with many ties, by trial, fold and resources; some of the fits fail."""

    def score(claim: Claim) -> float | None:
        draw = random.Random(f"{seed} {claim.trial_number} {claim.fold} {claim.n_resources}")
        return None if draw.random() < failing else draw.randint(0, 6) / 8

    return score


def table(ledger: Ledger, job_id: UUID) -> dict[str, Any]:
    with reading(ledger.engine) as session:
        job = session.get_one(Job, job_id)
        results = queries.build_cv_results(session, job)
        shown = {name: column for name, column in results.items() if "time" not in name}
        trials = [(trial.state, trial.iter, trial.validation_accuracy) for trial in ledger.trials(job_id)]
        winner = (job.state, job.best_trial, job.best_accuracy, job.rungs, job.error)
        return {"results": shown, "trials": trials, "winner": winner}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, failing", [*((name, 0.15) for name in SEARCHES), ("halving with a race", 0.0), ("hyperband", 0.0)]
)
def test_the_table_is_the_same_in_whatever_order_fits_end(name: str, failing: float, engine: Engine) -> None:
    search, changes = SEARCHES[name]
    tables = []
    for seed in (0, 1, 2):
        ledger = Ledger(engine, audit_every=25)  # an audit reads all of the job
        job_id = ledger.post(spec(search, **changes))
        # Three orders on SQLite; on PostgreSQL, which takes longer, the last of them.
        if engine.dialect.name == "sqlite" or seed in (0, 2):
            ledger.train(job_id, make_score(7, failing), random.Random(seed), workers=1 + 3 * (seed > 0))
            tables.append(table(ledger, job_id))
    assert all(one == tables[0] for one in tables)
    assert tables[0]["winner"][0] in (JobState.SUCCEEDED, JobState.FAILED)
    ledger.audit()
    assert all(fit.position is not None or fit.state != State.SUCCEEDED for fit in ledger.fits(job_id))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_a_race_has_the_winner_of_the_whole_search_for_fewer_fits(seed: int, sqlite_engine: Engine) -> None:
    ledger = Ledger(sqlite_engine, audit_every=25)
    grid = SEARCHES["race"][0]
    found = []
    for race in (None, {"method": "lossless"}):
        job_id = ledger.post(spec(grid, evaluation={"cv": 4, "race": race}))
        fits = ledger.train(job_id, make_score(seed, 0.1), random.Random(seed))
        job = ledger.job(job_id)
        folds = [fit.accuracy for fit in ledger.fits(job_id) if fit.trial_number == job.best_trial]
        found.append((job.best_trial, job.best_accuracy, folds, job.state))
        assert job.fits_succeeded + job.fits_failed - 1 == fits
    ledger.audit()
    assert found[0] == found[1]
    assert fits < 48


@pytest.mark.slow
def test_on_the_articles_grid_a_race_trains_45_of_81_fits(engine: Engine) -> None:
    ledger = Ledger(engine)
    neurons = {"strategy": "grid", "param_grid": {"num_neurons": list(range(1, 28))}}
    job_id = ledger.post(spec(neurons, evaluation=RACE))
    assert ledger.train(job_id, lambda claim: 0.95 if claim.trial_number % 3 == 0 else 0.2, random.Random(0)) == 45
    job = ledger.job(job_id)
    assert (job.trials_pruned, job.trials_succeeded, job.fits_cancelled) == (18, 9, 36)


def test_a_place_that_is_certain_is_filled_before_its_rung_has_ended(engine: Engine) -> None:
    ledger = Ledger(engine)
    search = {"strategy": "halving_grid", "param_grid": NEURONS, "rung_levels": [1, 3], "factor": 3}
    job_id = ledger.post(spec(search, evaluation={"validation_split": 0.5, "refit": False}))
    first = [ledger.claim(job_id) for _ in range(12)]
    assert ledger.none_to_claim(job_id)
    for place, claim in enumerate(first[:8]):
        ledger.finish(claim, place / 10)
        assert ledger.none_to_claim(job_id)
    # Of nine that have ended, the best is among the best four whatever the other three are.
    ledger.finish(first[8], 0.9)
    early = ledger.claim(job_id)
    assert (early.trial_number, early.n_resources) == (first[8].trial_number, 3)
    for claim in first[9:]:
        ledger.finish(claim, 0.85)
    rest = [ledger.claim(job_id) for _ in range(3)]
    assert {claim.trial_number for claim in rest} == {claim.trial_number for claim in first[9:]}
    for claim in (early, *rest):
        ledger.finish(claim, 0.5)
    # The first of the equal ones in ascending order of the rung below: of the latecomers, the first in the grid.
    assert ledger.job(job_id).best_trial == min(claim.trial_number for claim in first[9:])


@pytest.mark.slow
def test_failed_candidates_leave_places_empty_and_the_search_ends(engine: Engine) -> None:
    ledger = Ledger(engine)
    search = SEARCHES["halving over epochs"][0]
    job_id = ledger.post(spec(search))
    score: Score = lambda claim: 0.5 if claim.trial_number < 2 else None  # noqa: E731
    ledger.train(job_id, score, random.Random(0))
    job = ledger.job(job_id)
    assert (job.state, job.trials_failed) == (JobState.SUCCEEDED, 10)
    assert [rung["n_candidates"] for rung in job.rungs or ()] == [12, 2, 2]
    nothing = ledger.post(spec(search))
    ledger.train(nothing, lambda claim: None, random.Random(0))
    job = ledger.job(nothing)
    assert (job.state, job.trials_failed, job.fits_queued) == (JobState.FAILED, 12, 0)
    assert [rung["state"] for rung in job.rungs or ()] == ["succeeded", "cancelled", "cancelled"]


@pytest.mark.slow
def test_a_job_fails_whose_last_rung_has_no_result(engine: Engine) -> None:
    ledger = Ledger(engine)
    job_id = ledger.post(spec(SEARCHES["halving over epochs"][0]))
    ledger.train(job_id, lambda claim: 0.5 if (claim.n_resources or 0) < 9 else None, random.Random(0))
    job = ledger.job(job_id)
    assert (job.state, job.best_trial, job.trials_succeeded) == (JobState.FAILED, None, 0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["race", "halving with a race", "hyperband"])
@pytest.mark.parametrize("after", [0, 1, 13, 30])
def test_a_search_can_be_cancelled_at_any_time(name: str, after: int, engine: Engine) -> None:
    ledger = Ledger(engine)
    search, changes = SEARCHES[name]
    job_id = ledger.post(spec(search, **changes))
    for _ in range(after):
        ledger.finish(ledger.claim(job_id), 0.5)
    held = [ledger.claim(job_id) for _ in range(2)]
    ledger.cancel(job_id)
    for claim in held:
        assert ledger.finish(claim, 0.9)
    assert ledger.job(job_id).state == JobState.CANCELLED


def test_too_many_failed_trials_end_a_race(engine: Engine) -> None:
    ledger = Ledger(engine)
    search, changes = SEARCHES["race"]
    job_id = ledger.post(spec(search, **changes, limits={"max_failed_trials": 1}))
    ledger.train(job_id, lambda claim: None if claim.trial_number < 3 else 0.5, random.Random(0))
    job = ledger.job(job_id)
    assert (job.state, (job.error or {})["type"]) == (JobState.FAILED, "TooManyFailedTrials")


@pytest.mark.slow
def test_deleting_a_search_with_rungs_leaves_no_rows(engine: Engine) -> None:
    ledger = Ledger(engine)
    job_id = ledger.post(spec(SEARCHES["hyperband"][0]))
    ledger.train(job_id, make_score(1, 0.0), random.Random(0))
    ledger.remove(job_id)
    with reading(engine) as session:
        assert [session.scalar(select(func.count()).select_from(one)) for one in (Fit, Place)] == [0, 0]


def test_a_trial_given_up_after_lost_attempts_makes_the_job_irreproducible(engine: Engine) -> None:
    ledger = Ledger(engine)
    job_id = ledger.post(spec(SEARCHES["levels"][0]))
    for _ in range(3):
        ledger.lose(ledger.claim(job_id))
    assert "given up after 3 lost attempts" in (ledger.job(job_id).irreproducible or "")
