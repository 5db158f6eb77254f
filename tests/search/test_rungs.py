"""The rungs of halving and hyperband searches, and who goes on from one to the next."""

import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import (
    HalvingGridSearchCV,
    HalvingRandomSearchCV,
    ParameterSampler,
    _search_successive_halving,
)

from app.tuning.search.rungs import (
    decide_early,
    plan_halving,
    plan_hyperband,
    plan_levels,
    select_best,
    select_top,
)

SCORES = st.integers(0, 5).map(float)  # with many ties
FACTORS = st.sampled_from([1.5, 2, 2.5, 3, 4, 10])
DATA = np.zeros((4, 1)), np.array([0, 1, 0, 1])


class StableNumpy:
    """numpy whose `argsort` is stable: with vector instructions the default one orders equal scores as it likes."""

    argsort = staticmethod(partial(np.argsort, kind="stable"))

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


@pytest.fixture(autouse=True, scope="module")
def stable_scikit_learn() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_search_successive_halving, "np", StableNumpy())
        yield


class Table(BaseEstimator):  # type: ignore[misc]
    """An estimator whose score is looked up in a table; None makes its fit fail."""

    table: dict[tuple[int, int], float | None]

    def __init__(self, place: int = 0, epochs: int = 1) -> None:
        self.place, self.epochs = place, epochs

    def fit(self, x: Any, y: Any) -> "Table":
        if self.table[self.place, self.epochs] is None:
            raise ValueError("no score")
        return self

    def score(self, x: Any, y: Any) -> float:
        found = self.table[self.place, self.epochs]
        assert found is not None
        return found


class Scores(dict[tuple[int, int], float | None]):
    """Scores by place and epochs, drawn when asked for."""

    def __init__(self, seed: int, failing: bool) -> None:
        super().__init__()
        self.seed, self.choices = seed, (None, 0.0, 1.0, 2.0, 3.0) if failing else (0.0, 1.0, 2.0, 3.0)

    def __missing__(self, key: tuple[int, int]) -> float | None:
        random = np.random.default_rng([self.seed, *key])
        self[key] = self.choices[random.integers(len(self.choices))]
        return self[key]


def halve(
    table: Scores, places: list[int], least: int, most: int, factor: float, aggressive: bool, exhaust: bool
) -> tuple[list[tuple[int, int, int]], int | None]:
    """The rows of a search by our functions, as (iter, n_resources, place), and the best place."""
    rows: list[tuple[int, int, int]] = []
    plan = plan_halving(len(places), least, most, factor, aggressive, exhaust)
    for rung, following in zip(plan, [*plan[1:], None], strict=True):
        rows += [(rung.iter, rung.n_resources, place) for place in places]
        found = [table[place, rung.n_resources] for place in places]
        means = np.array([np.nan if score is None else score for score in found])
        if following is None:
            best = select_best(means)
            return rows, None if best is None else places[best]
        places = [places[index] for index in select_top(means, following.n_candidates)]
    raise AssertionError("no rung")


def rows_of(search: Any) -> list[tuple[int, int, int]]:
    results = search.cv_results_
    params = [row["place"] for row in results["params"]]
    return list(zip(results["iter"].tolist(), results["n_resources"].tolist(), params, strict=True))


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, 40), st.integers(1, 5), st.integers(5, 60), FACTORS, st.booleans(), st.booleans(), st.integers(0, 99)
)
def test_halving_a_grid_gives_scikit_learns_rows(
    candidates: int, least: int, most: int, factor: float, aggressive: bool, exhaust: bool, seed: int
) -> None:
    table = Scores(seed, failing=False)
    Table.table = table
    search = HalvingGridSearchCV(
        Table(),
        {"place": list(range(candidates))},
        resource="epochs",
        min_resources="exhaust" if exhaust else least,
        max_resources=most,
        factor=factor,
        aggressive_elimination=aggressive,
        cv=2,
        refit=False,
    ).fit(*DATA)
    least = 1 if exhaust else least
    rows, best = halve(table, list(range(candidates)), least, most, factor, aggressive, exhaust)
    assert rows == rows_of(search)
    last = [(row, score) for row, score in zip(rows, search.cv_results_["mean_test_score"], strict=True)]
    assert best == max((row for row in last if row[0][0] == rows[-1][0]), key=lambda row: row[1])[0][2]


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.integers(1, 4), st.integers(4, 40), FACTORS, st.integers(0, 99))
def test_halving_random_draws_gives_scikit_learns_rows(least: int, most: int, factor: float, seed: int) -> None:
    table = Scores(seed, failing=False)
    Table.table = table
    space = {"place": list(range(1000))}
    search = HalvingRandomSearchCV(
        Table(),
        space,
        resource="epochs",
        min_resources=least,
        max_resources=most,
        factor=factor,
        cv=2,
        random_state=seed,
        refit=False,
    ).fit(*DATA)
    drawn = [one["place"] for one in ParameterSampler(space, most // least, random_state=seed)]
    assert halve(table, drawn, least, most, factor, False, False)[0] == rows_of(search)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.integers(4, 40), st.integers(0, 99))
def test_failed_candidates_are_the_worst_as_in_scikit_learn_and_never_go_on(candidates: int, seed: int) -> None:
    table = Scores(seed, failing=True)
    Table.table = table
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            search = HalvingGridSearchCV(
                Table(),
                {"place": list(range(candidates))},
                resource="epochs",
                min_resources=1,
                max_resources=9,
                cv=2,
                refit=False,
            ).fit(*DATA)
        except ValueError:  # scikit-learn raises where all fits have failed
            return
    rows, _ = halve(table, list(range(candidates)), 1, 9, 3, False, False)
    theirs = rows_of(search)
    for iteration in range(1, 3):
        promoted = [row for row in theirs if row[0] == iteration]
        failed = {place for it, n, place in theirs if it == iteration - 1 and table[place, n] is None}
        if failed & {place for _, _, place in promoted}:
            return  # they let a failed one go on, and from here the searches differ
        assert [row for row in rows if row[0] == iteration] == promoted


def test_scikit_learns_logarithm_is_one_too_few_for_3_to_the_5th() -> None:
    assert [rung.n_candidates for rung in plan_halving(243, 1, 243, 3, False, False)] == [243, 81, 27, 9, 3]


def test_hyperband_counts_exactly() -> None:
    brackets = [
        [(rung.n_candidates, rung.n_resources) for rung in plan_hyperband(1, 81, 3, None) if rung.bracket == bracket]
        for bracket in range(5)
    ]
    # Table 1 of the paper, with its ceil((s_max + 1) / (s + 1) * eta^s).
    assert brackets[0] == [(81, 1), (27, 3), (9, 9), (3, 27), (1, 81)]
    assert brackets[1] == [(34, 3), (11, 9), (3, 27), (1, 81)]
    assert brackets[2] == [(15, 9), (5, 27), (1, 81)]
    assert brackets[3:] == [[(8, 27), (2, 81)], [(5, 81)]]
    six = [rung for rung in plan_hyperband(1, 243, 3, 1)]
    assert [rung.n_resources for rung in six] == [1, 3, 9, 27, 81, 243]
    assert [rung.n_candidates for rung in six] == [243, 81, 27, 9, 3, 1]


def test_explicit_levels_keep_one_in_factor() -> None:
    assert [(rung.n_candidates, rung.n_resources) for rung in plan_levels(27, [1, 9], 9)] == [(27, 1), (3, 9)]


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.lists(SCORES | st.just(np.nan), max_size=12), st.integers(1, 12), st.randoms(use_true_random=False))
def test_places_that_are_certain_early_are_those_of_the_whole_rung(
    scores: list[float], places: int, random: Any
) -> None:
    means: NDArray[np.float64] = np.array(scores, dtype=np.float64)
    chosen = set(select_top(means, places).tolist())
    ended = np.zeros(len(means), dtype=np.bool_)
    order = list(range(len(means)))
    random.shuffle(order)
    for index in order:
        ended[index] = True
        certain, out = decide_early(np.where(ended, means, np.nan), ended, places)
        assert set(certain.tolist()) <= chosen
        assert not set(out.tolist()) & chosen
    if order:
        assert set(certain.tolist()) == chosen
        assert set(out.tolist()) == set(order) - chosen


@pytest.mark.parametrize(("means", "best"), [([], None), ([np.nan, np.nan], None), ([0.5, np.nan, 0.5, 0.25], 0)])
def test_the_first_of_the_best_wins(means: list[float], best: int | None) -> None:
    assert select_best(np.array(means, dtype=np.float64)) == best
