"""Races save fits and never change who wins."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from app.tuning.search.racing import Packed, race_bootstrap, race_lossless
from app.tuning.search.rungs import select_best, select_top

Table = NDArray[np.float64]


def run_race(table: Table, places: int, burn_in: int, *, last: bool, highest: float = 1.0) -> tuple[Table, int]:
    """The table of a race over these scores (NaN: the fit fails), and the number of fits that were trained."""
    trained = np.zeros(table.shape, dtype=np.bool_)
    trained[:, :burn_in] = True
    settled = np.zeros(len(table), dtype=np.bool_)
    while True:
        seen = np.where(trained, table, np.nan)
        board = (seen, trained & np.isnan(table), settled, places, burn_in)
        step = race_lossless(*board, last=last, highest=highest)
        assert step == race_lossless(*board, last=last, highest=highest)
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
@given(tables(), st.integers(1, 3), st.sampled_from([(1.0, 1.0), (0.0, 1.0), (0.0, 1000.0)]))
def test_the_winner_is_that_of_the_whole_table(table: Table, burn_in: int, scale: tuple[float, float]) -> None:
    """Whether scores reach up to 1, or are errors below 0."""
    highest, span = scale
    table, burn_in = (table - 1.0) * span + highest, min(burn_in, table.shape[1])
    raced, fits = run_race(table, 1, burn_in, last=True, highest=highest)
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


def run_bootstrap(shares: list[float], rows: int, alpha: float = 0.01) -> tuple[set[int], int]:
    """The candidates that get all folds, and the number of fits, of candidates that are right on these shares."""
    random = np.random.default_rng(1)
    folds = 3
    right = [[random.random(rows) < share for _ in range(folds)] for share in shares]
    table = np.array([[fold.mean() for fold in own] for own in right])
    packed = [[np.packbits(fold).tobytes() for fold in own] for own in right]
    trained = np.zeros(table.shape, dtype=np.bool_)
    trained[:, 0] = True
    settled = np.zeros(len(table), dtype=np.bool_)
    while True:
        seen = np.where(trained, table, np.nan)
        hits: Packed = [
            [one if done else None for one, done in zip(own, row, strict=True)]
            for own, row in zip(packed, trained, strict=True)
        ]
        step = race_bootstrap(seen, np.zeros_like(trained), settled, 1, 1, last=True, hits=hits, alpha=alpha)
        settled[step.out] = True
        if not step.issue:
            return set(np.flatnonzero(~settled).tolist()), int(trained.sum())
        for candidate, fold in step.issue:
            assert not trained[candidate, fold] and not settled[candidate]
            trained[candidate, fold] = True


def test_a_bootstrap_race_drops_the_clearly_worse_after_one_fold() -> None:
    alive, fits = run_bootstrap([0.97, 0.969, 0.968, 0.967, *[0.93] * 20], rows=2000)
    assert alive == {0, 1, 2, 3}
    assert fits == 24 + 4 * 2


def test_a_bootstrap_race_keeps_what_it_cannot_tell_apart() -> None:
    alive, fits = run_bootstrap([0.9] * 12, rows=200)
    assert len(alive) >= 11
    assert fits >= 34


def test_folds_without_hits_say_nothing() -> None:
    table = np.array([[0.9, 0.9, 0.9], [0.89, 0.9, 0.9], [0.88, 0.9, 0.9], [0.87, 0.9, 0.9], [0.86, np.nan, np.nan]])
    none: Packed = [[None] * 3 for _ in table]
    board = (table, np.zeros(table.shape, dtype=np.bool_), np.zeros(5, dtype=np.bool_), 1, 1)
    lossless = race_lossless(*board, last=True)
    assert race_bootstrap(*board, last=True, hits=none, alpha=0.01) == lossless
    assert lossless.issue == [(4, 1)]


@pytest.mark.parametrize("missing", [0.2, 0.85])
def test_a_candidate_that_could_still_tie_and_comes_first_stays(missing: float) -> None:
    table = np.array([[missing, 1.0, 1.0], *[[(missing + 2) / 3] * 3] * 4])
    raced, _ = run_race(table, 1, 1, last=True)
    assert select_best(average(raced)) == select_best(average(table))
