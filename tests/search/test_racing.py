"""Races save fits and never change who wins."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from app.tuning.search.racing import race_lossless
from app.tuning.search.rungs import select_best, select_top

Table = NDArray[np.float64]


def run_race(table: Table, places: int, burn_in: int, *, last: bool) -> tuple[Table, int]:
    """The table of a race over these accuracies (NaN: the fit fails), and the number of fits that were trained."""
    trained = np.zeros(table.shape, dtype=np.bool_)
    trained[:, :burn_in] = True
    settled = np.zeros(len(table), dtype=np.bool_)
    while True:
        seen = np.where(trained, table, np.nan)
        step = race_lossless(seen, trained & np.isnan(table), settled, places, burn_in, last=last)
        assert step == race_lossless(seen, trained & np.isnan(table), settled, places, burn_in, last=last)
        assert not settled[step.out].any()
        settled[step.out] = True
        if not step.issue:
            return np.where(settled[:, None], np.nan, np.where(trained, table, np.nan)), int(trained.sum())
        for candidate, fold in step.issue:
            assert not trained[candidate, fold] and not settled[candidate]
            trained[candidate, fold] = True


def average(table: Table) -> Table:
    return np.array([np.average(row) for row in table], dtype=np.float64)


@st.composite
def tables(draw: Any) -> Table:
    """Accuracies in steps of a tenth, with ties, and some failures."""
    candidates, folds = draw(st.integers(1, 20)), draw(st.integers(1, 10))
    cells = st.integers(0, 10).map(lambda tenths: tenths / 10)
    if draw(st.booleans()):
        cells = cells | st.just(float("nan"))
    rows = st.lists(st.lists(cells, min_size=folds, max_size=folds), min_size=candidates, max_size=candidates)
    return np.array(draw(rows), dtype=np.float64)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(tables(), st.integers(1, 3))
def test_the_winner_is_that_of_the_whole_table(table: Table, burn_in: int) -> None:
    burn_in = min(burn_in, table.shape[1])
    raced, fits = run_race(table, 1, burn_in, last=True)
    best = select_best(average(table))
    assert select_best(average(raced)) == best
    if best is not None:
        assert raced[best].tolist() == table[best].tolist()
    assert fits <= table.size


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(tables(), st.integers(1, 8))
def test_those_who_go_on_are_those_of_the_whole_table_in_its_order(table: Table, places: int) -> None:
    raced, _ = run_race(table, places, 1, last=False)
    assert select_top(average(raced), places).tolist() == select_top(average(table), places).tolist()


def test_on_the_articles_grid_18_of_27_are_out_after_their_first_fold() -> None:
    random = np.random.default_rng(0)
    table = np.where(np.arange(27) % 3 == 0, 0.95, 0.2)[:, None] + random.uniform(-0.005, 0.005, (27, 3))
    _, fits = run_race(table, 1, 1, last=True)
    assert fits == 45


@pytest.mark.parametrize("missing", [0.2, 0.85])
def test_a_candidate_that_could_still_tie_and_comes_first_stays(missing: float) -> None:
    table = np.array([[missing, 1.0, 1.0], *[[(missing + 2) / 3] * 3] * 4])
    raced, _ = run_race(table, 1, 1, last=True)
    assert select_best(average(raced)) == select_best(average(table))
