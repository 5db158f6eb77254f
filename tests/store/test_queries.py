"""Queries: `cv_results_` as scikit-learn computes it, and pages without gaps or repetitions."""

import json
import math
import warnings
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sqlalchemy import Engine, update

from app.tuning.database import clock
from app.tuning.database import reading as transaction
from app.tuning.jobs import queries, store
from app.tuning.jobs.queries import JobFilter
from app.tuning.jobs.tables import Job, JobState, State, Trial
from tests.support.ledger import Ledger, spec

SAMPLES = 60
IDS = np.repeat(np.arange(2), SAMPLES // 2)


class Oracle(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """An estimator whose score is a pure function of its parameters and of the fold, recognized by its samples."""

    def __init__(self, num_neurons: int = 8, learning_rate: float = 0.1, optimizer: str = "adam", folds: int = 3):
        self.num_neurons, self.learning_rate, self.optimizer, self.folds = num_neurons, learning_rate, optimizer, folds

    def fit(self, x: Any, y: Any) -> "Oracle":
        seen = set(x[:, 0].astype(int).tolist())
        if oracle(self.params(), self._fold(min(set(range(SAMPLES)) - seen, default=0))) is None:
            raise ValueError("the loss is not a number")
        return self

    def score(self, x: Any, y: Any) -> float:
        return oracle(self.params(), self._fold(int(x[0, 0]))) or 0.0

    def params(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("num_neurons", "learning_rate", "optimizer")}

    def _fold(self, first_held_out: int) -> int:
        return first_held_out // (SAMPLES // 2 // self.folds)


def oracle(params: dict[str, Any], fold: int) -> float | None:
    """A score with ties (of 16 and 24 neurons) and failures (of sgd on the second fold)."""
    full: dict[str, Any] = {"num_neurons": 8, "learning_rate": 0.1, "optimizer": "adam"} | params
    if full["optimizer"] == "sgd" and fold == 1:
        return None
    neurons = 16 if full["num_neurons"] == 24 else full["num_neurons"]
    return abs(math.sin(neurons * 7.1 + full["learning_rate"] * 31 + fold * 1.7 + len(full["optimizer"])))


SEARCHES: dict[str, dict[str, Any]] = {
    "a grid": {"strategy": "grid", "param_grid": {"num_neurons": [8, 16, 24, 32], "learning_rate": [0.1, 0.01]}},
    "a grid with failed folds": {
        "strategy": "grid",
        "param_grid": {"optimizer": ["sgd", "adam", "nadam"], "num_neurons": [16, 24]},
    },
    "a list of grids": {
        "strategy": "grid",
        "param_grid": [{"num_neurons": [8, 16]}, {"optimizer": ["adam", "sgd"], "learning_rate": [0.5]}, {}],
    },
    "one candidate": {"strategy": "grid", "param_grid": {"num_neurons": [64]}},
    "draws from lists": {
        "strategy": "random",
        "param_distributions": {"num_neurons": [8, 16, 24], "optimizer": ["adam", "sgd"]},
        "n_iter": 4,
    },
    "draws from a list of spaces": {
        "strategy": "random",
        "param_distributions": [{"num_neurons": [8, 16, 24]}, {"optimizer": ["adam", "sgd", "nadam"]}],
        "n_iter": 5,
    },
}


def theirs(search: dict[str, Any], folds: int, random_state: int) -> Any:
    common = {"cv": folds, "error_score": np.nan, "refit": False}
    estimator = Oracle(folds=folds)
    if search["strategy"] == "grid":
        run = GridSearchCV(estimator, search["param_grid"], **common)
    else:
        spaces, n_iter = search["param_distributions"], search["n_iter"]
        run = RandomizedSearchCV(estimator, spaces, n_iter=n_iter, random_state=random_state, **common)
    # Two classes, the samples of each in order, so that a fold is known by its first sample.
    x, y = np.arange(SAMPLES, dtype=float).reshape(-1, 1), IDS
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FitFailedWarning)
        warnings.filterwarnings("ignore", message="One or more of the test scores are non-finite")
        return run.fit(x, y)


def plain(column: Any) -> list[Any]:
    """A column of scikit-learn's in JSON: masked and NaN entries are null."""
    values = column.tolist() if isinstance(column, np.ndarray) else column
    return [None if isinstance(value, float) and math.isnan(value) else value for value in values]


@pytest.mark.slow
@pytest.mark.parametrize("folds", [3, 10])
@pytest.mark.parametrize("name", SEARCHES)
def test_results_equal_scikit_learns_key_for_key(sqlite_engine: Engine, name: str, folds: int) -> None:
    assert_equal_results(sqlite_engine, SEARCHES[name], folds)


def test_results_equal_scikit_learns_on_either_database(engine: Engine) -> None:
    assert_equal_results(engine, SEARCHES["a list of grids"], 3)


def assert_equal_results(engine: Engine, search: dict[str, Any], folds: int) -> None:
    run = theirs(search, folds, 5)
    expected = {key: plain(column) for key, column in run.cv_results_.items()}
    ledger = Ledger(engine)
    job_id = ledger.post(spec(search, evaluation={"cv": folds}, random_state=5))
    params = [trial.params for trial in ledger.trials(job_id)]
    assert params == expected["params"]
    ledger.finish_search(job_id, lambda trial, fold: oracle(params[trial], fold))
    with transaction(engine) as session:
        results = queries.build_cv_results(session, session.get_one(Job, job_id))
    assert list(results) == list(expected), "the same keys in the same order"
    for key in expected:
        if key.endswith("_time"):  # theirs are other seconds, but there are some in the same places
            assert [second is None for second in results[key]] == [second is None for second in expected[key]], key
            assert all(second >= 0 for second in results[key]), key
        else:
            assert results[key] == expected[key], key
    failed = [any(oracle(one, fold) is None for fold in range(folds)) for one in params]
    for one, ours, sklearns in zip(failed, results["mean_score_time"], expected["mean_score_time"], strict=True):
        assert ours == (0.5 * (folds - 1) / folds if one else 0.5) and sklearns > 0
    best = int(run.cv_results_["rank_test_score"].argmin())
    assert ledger.job(job_id).best_trial == best
    json.dumps(results, allow_nan=False)


def test_a_single_split_is_one_column(engine: Engine) -> None:
    ledger = Ledger(engine)
    job_id = ledger.post(spec(SEARCHES["a grid"], evaluation={"validation_split": 0.5}))
    ledger.finish_search(job_id, lambda trial, _: None if trial == 2 else 0.5)
    with transaction(engine) as session:
        results = queries.build_cv_results(session, session.get_one(Job, job_id))
    assert results["split0_test_score"] == results["mean_test_score"] == [0.5, 0.5, None, *[0.5] * 5]
    assert results["std_test_score"] == [0.0, 0.0, None, *[0.0] * 5]
    assert results["rank_test_score"] == [1, 1, 8, 1, 1, 1, 1, 1]
    assert results["mean_fit_time"][:2] == [2.0, 2.0] and results["mean_fit_time"][2] > 0
    assert results["mean_score_time"][:3] == [0.5, 0.5, 0.0]
    assert results["std_score_time"][0] == 0.0


def test_results_contain_exactly_the_trials_that_have_ended(engine: Engine) -> None:
    ledger = Ledger(engine)
    job_id = ledger.post(spec(SEARCHES["a grid"], evaluation={"cv": 2}))
    with transaction(engine) as session:
        results = queries.build_cv_results(session, session.get_one(Job, job_id))
        assert {len(column) for column in results.values()} == {0}
    for _ in range(3):
        ledger.finish(ledger.claim(job_id), 0.5)
    with transaction(engine) as session:
        results = queries.build_cv_results(session, session.get_one(Job, job_id))
    [ended] = [trial for trial in ledger.trials(job_id) if trial.state == State.SUCCEEDED]
    assert results["params"] == [ended.params]


def test_if_every_trial_failed_all_share_the_first_rank(sqlite_engine: Engine) -> None:
    ledger = Ledger(sqlite_engine)
    job_id = ledger.post(spec(SEARCHES["a grid"], evaluation={"validation_split": 0.5}))
    ledger.finish_search(job_id, lambda *_: None)
    with transaction(sqlite_engine) as session:
        assert queries.build_cv_results(session, session.get_one(Job, job_id))["rank_test_score"] == [1] * 8


ACCURACIES = [0.5, 0.9, None, 0.5, 0.7, None, 0.9, 0.1, 0.5, 0.30000000000000004, 0.3, None]


def paged(ledger: Ledger, page_size: int, sort: queries.TrialSort, state: State | None = None) -> list[Trial]:
    """All trials, page by page, each starting where the one before ended."""
    trials = {"strategy": "grid", "param_grid": {"num_neurons": list(range(1, len(ACCURACIES) + 1))}}
    job_id = ledger.post(spec(trials, evaluation={"validation_split": 0.5}))
    ledger.finish_search(job_id, lambda trial, _: ACCURACIES[trial])
    found: list[Trial] = []
    after: queries.TrialPlace | None = None
    while True:
        with transaction(ledger.engine) as session:
            page = queries.list_page_of_trials(session, job_id, state, sort, after, page_size)
            ranks = queries.rank_trials(session, job_id, page)
        for trial in page:
            if trial.validation_accuracy is not None:
                better = sum(1 for one in ACCURACIES if one is not None and one > trial.validation_accuracy)
                assert ranks[0, trial.validation_accuracy] == 1 + better
        found += page
        if len(page) < page_size:
            return found
        after = page[-1].validation_accuracy, page[-1].number


@pytest.mark.slow
@pytest.mark.parametrize("page_size", [1, 2, 5, 100])
def test_pages_add_up_to_the_whole_list_in_every_order(sqlite_engine: Engine, page_size: int) -> None:
    assert_pages(sqlite_engine, page_size)


@pytest.mark.slow
def test_pages_add_up_on_either_database(engine: Engine) -> None:
    assert_pages(engine, 2)


def assert_pages(engine: Engine, page_size: int) -> None:
    ledger = Ledger(engine)
    known = [number for number, accuracy in enumerate(ACCURACIES) if accuracy is not None]
    unknown = [number for number, accuracy in enumerate(ACCURACIES) if accuracy is None]
    rising = sorted(known, key=lambda number: (ACCURACIES[number], number))
    falling = sorted(known, key=lambda number: (-(ACCURACIES[number] or 0), number))
    orders: list[tuple[queries.TrialSort, list[int]]] = [
        ("number", list(range(len(ACCURACIES)))),
        ("validation_accuracy", rising + unknown),
        ("-validation_accuracy", falling + unknown),
    ]
    for sort, order in orders:
        assert [trial.number for trial in paged(ledger, page_size, sort)] == order, sort
    assert [trial.number for trial in paged(ledger, page_size, "-validation_accuracy", State.FAILED)] == unknown
    assert [trial.number for trial in paged(ledger, page_size, "-validation_accuracy", State.SUCCEEDED)] == falling


def test_jobs_are_listed_newest_first_and_once_even_if_created_at_the_same_time(engine: Engine) -> None:
    ledger = Ledger(engine)
    posted = [ledger.post(spec(SEARCHES["one candidate"])) for _ in range(5)]
    ages = [30, 10, 20, 20, 20]
    moment = datetime.now(UTC) - timedelta(seconds=20)
    for job_id, age in zip(posted, ages, strict=True):
        ledger.do(store.execute_change, update(Job).where(Job.id == job_id).values(created_at=clock(-age)))
    same = [job_id for job_id, age in zip(posted, ages, strict=True) if age == 20]
    ledger.do(store.execute_change, update(Job).where(Job.id.in_(same)).values(created_at=moment))
    expected = [posted[1], *sorted(same, key=lambda one: one.int, reverse=True), posted[0]]
    for size in (1, 2, 5):
        found: list[Job] = []
        while True:
            after = (found[-1].created_at, found[-1].id) if found else None
            with transaction(engine) as session:
                page = queries.list_page_of_jobs(session, JobFilter(), after, size)
            found += page
            if len(page) < size:
                break
        assert [job.id for job in found] == expected
    ledger.cancel(posted[1])
    with transaction(engine) as session:
        assert [job.id for job in queries.list_page_of_jobs(session, JobFilter(JobState.CANCELLED), None, 9)] == [
            posted[1]
        ]


def test_the_best_params_of_several_jobs_are_found_together(engine: Engine) -> None:
    ledger = Ledger(engine)
    won, open_still = (ledger.post(spec(SEARCHES["a grid"], evaluation={"validation_split": 0.5})) for _ in range(2))
    ledger.finish_search(won, lambda trial, _: 0.9 if trial == 3 else 0.5)
    with transaction(engine) as session:
        jobs = queries.list_page_of_jobs(session, JobFilter(), None, 9)
        assert queries.find_best_params(session, jobs) == {won: ledger.trial(won, 3).params}
        assert queries.find_best_params(session, [ledger.job(open_still)]) == {}


def test_the_fits_of_a_trial_are_listed_by_fold_and_the_refit_last(engine: Engine) -> None:
    ledger = Ledger(engine)
    job_id = ledger.post(spec(SEARCHES["one candidate"]))
    ledger.finish_search(job_id, lambda *_: 0.5)
    ledger.finish(ledger.claim(job_id))
    with transaction(engine) as session:
        fits = queries.list_fits(session, job_id, 0)
        assert [fit.fold for fit in fits] == [0, 1, 2, None]
        assert queries.list_epochs(session, fits) == {fit.id: [] for fit in fits}


@pytest.mark.parametrize(
    ("successes", "samples", "low", "high"),
    # Newcombe (1998), table I, method 3: Wilson's score without continuity correction.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilsons_interval_is_the_published_one(successes: int, samples: int, low: float, high: float) -> None:
    assert queries.wilson_interval(successes, samples) == pytest.approx((low, high), abs=5e-5)
