"""The choice of a trial: who ties with the winner, what the winner is worth, and which one is cheap enough."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import binomtest

from app.tuning.search import selection
from app.tuning.search.selection import (
    RESAMPLES,
    Corrected,
    Hits,
    correct_accuracy,
    find_tied,
    select_one_standard_error,
    unpack_hits,
)

matrices = st.tuples(st.integers(1, 6), st.integers(2, 40)).flatmap(lambda shape: arrays(np.bool_, shape))


def numbered(matrix: Any, first: int = 0) -> dict[int, Hits]:
    return dict(enumerate(np.asarray(matrix, np.bool_), first))


def mark(rows: int, right: int) -> Hits:
    """Hits on the first `right` rows."""
    return np.arange(rows) < right


def draw_hits(seed: int, accuracies: list[float], rows: int) -> dict[int, Hits]:
    """Independent hits with these true accuracies."""
    return numbered(np.random.default_rng(seed).random((len(accuracies), rows)) < np.array(accuracies)[:, None])


@given(st.lists(arrays(np.bool_, st.integers(0, 30)), min_size=1, max_size=4))
def test_the_hits_of_folds_are_put_one_after_the_other(folds: list[Hits]) -> None:
    packed, sizes = [np.packbits(fold).tobytes() for fold in folds], [len(fold) for fold in folds]
    np.testing.assert_array_equal(unpack_hits(packed, sizes), np.concatenate(folds))


@pytest.mark.parametrize("sizes", [[9], [8, 0], [16, 1], [17]])
def test_hits_of_another_number_of_rows_are_rejected(sizes: list[int]) -> None:
    with pytest.raises(ValueError, match="bytes"):
        unpack_hits([b"\xff\xff"] if len(sizes) == 2 else [b"\xff"], sizes)


@given(matrices, st.integers(0, 5))
def test_tied_are_those_that_the_exact_binomial_test_does_not_tell_from_the_winner(matrix: Hits, winner: int) -> None:
    hits = numbered(matrix, first=3)
    winner = 3 + winner % len(matrix)
    expected = []
    for number, trial in hits.items():
        won, lost = int((trial & ~hits[winner]).sum()), int((hits[winner] & ~trial).sum())
        if number != winner and (won + lost == 0 or binomtest(won, won + lost).pvalue > 0.05):
            expected.append(number)
    assert find_tied(hits, winner) == expected


def test_an_equal_trial_ties_and_a_clearly_worse_one_does_not() -> None:
    winner = mark(2000, 1900)
    hits = {7: winner, 2: winner.copy(), 9: np.roll(winner, 100), 1: mark(2000, 1899), 4: mark(2000, 1800)}
    assert find_tied(hits, 7) == [1, 2, 9]


def test_the_same_difference_ties_where_the_two_disagree_on_many_rows() -> None:
    """10 rows more of 1,000: with 10 rows in dispute the winner wins all, with 190 it wins 100."""
    winner, nested, crossed = mark(1000, 800), mark(1000, 790), np.roll(mark(1000, 790), 100)
    assert find_tied({0: winner, 1: nested, 2: crossed}, 0) == [2]


@pytest.mark.parametrize(("lost", "tied"), [(5, [1]), (6, [])])
def test_five_rows_lost_and_none_won_still_tie(lost: int, tied: list[int]) -> None:
    """The p-values are 2 / 2**5 = 0.0625 and 2 / 2**6 = 0.03125."""
    assert find_tied({0: mark(100, 90), 1: mark(100, 90 - lost)}, 0) == tied


def test_a_trial_better_than_the_winner_ties_only_if_the_difference_is_small() -> None:
    assert find_tied({0: mark(100, 50), 1: mark(100, 53), 2: mark(100, 80)}, 0) == [1]


def correct_slowly(hits: dict[int, Hits], seed: int) -> Corrected:
    """BBC-CV row by row, as the paper states it."""
    rows, found = len(next(iter(hits.values()))), []
    random = np.random.Generator(np.random.SFC64(seed))
    for _ in range(RESAMPLES):
        drawn = random.integers(0, rows, rows, np.int32)
        best = max(sorted(hits), key=lambda number: int(hits[number][drawn].sum()))
        left_out = np.setdiff1d(np.arange(rows), drawn)
        if len(left_out):
            found.append(Fraction(int(hits[best][left_out].sum()), len(left_out)))
    found.sort()
    beyond = len(found) // 40
    return Corrected(float(sum(found) / len(found)), (float(found[beyond]), float(found[-1 - beyond])))


@settings(max_examples=20, deadline=None)
@given(matrices, st.integers(0, 2**31 - 1))
@pytest.mark.slow
def test_the_correction_is_that_of_the_paper(matrix: Hits, seed: int) -> None:
    hits = numbered(matrix)
    fast, slow = correct_accuracy(hits, seed), correct_slowly(hits, seed)
    assert fast is not None
    assert fast.ci95 == slow.ci95
    assert fast.accuracy == pytest.approx(slow.accuracy, rel=1e-12)
    assert correct_accuracy(dict(reversed(hits.items())), seed) == fast


def test_the_size_of_parts_does_not_change_the_correction(monkeypatch: pytest.MonkeyPatch) -> None:
    hits = draw_hits(1, [0.5, 0.6, 0.6, 0.7], 300)
    expected = correct_accuracy(hits, 5)
    monkeypatch.setattr(selection, "_ROWS", 7)
    monkeypatch.setattr(selection, "_COUNTS_BYTES", 299)
    assert correct_accuracy(hits, 5) == expected
    monkeypatch.setattr(selection, "_COUNTS_BYTES", 300 * 33)
    assert correct_accuracy(hits, 5) == expected
    assert correct_accuracy(hits, 6) != expected


def test_the_best_of_many_equal_trials_is_corrected_towards_their_true_accuracy() -> None:
    """The best of 100 trials of 0.8 each looks like 0.84; over 20 searches the correction takes the luck away."""
    raw, corrected, covered = [], [], 0
    for seed in range(20):
        hits = draw_hits(seed, [0.8] * 100, 500)
        found = correct_accuracy(hits, seed)
        assert found is not None
        raw.append(max(trial.mean() for trial in hits.values()))
        corrected.append(found.accuracy)
        covered += found.ci95[0] <= 0.8 <= found.ci95[1]
    assert np.mean(raw) > 0.835
    assert abs(np.mean(corrected) - 0.8) < 0.015
    assert covered >= 17


def test_a_winner_that_is_clearly_best_needs_no_correction() -> None:
    hits = draw_hits(3, [0.6] * 30 + [0.9], 2000)
    found = correct_accuracy(hits, 0)
    assert found is not None
    assert found.accuracy == pytest.approx(hits[30].mean(), abs=0.002)
    assert found.ci95[0] < hits[30].mean() < found.ci95[1]


@pytest.mark.parametrize(("right", "accuracy"), [(0, 0.0), (50, 1.0)])
def test_trials_that_are_always_wrong_or_always_right_stay_so(right: int, accuracy: float) -> None:
    assert correct_accuracy({4: mark(50, right), 8: mark(50, right)}, 1) == (accuracy, (accuracy, accuracy))


def test_a_single_row_cannot_be_corrected() -> None:
    assert correct_accuracy({0: mark(1, 1)}, 1) is None


accuracies = st.tuples(st.integers(1, 8), st.integers(1, 5)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.sampled_from([math.nan, *(k / 20 for k in range(21))]))
)


@given(accuracies, st.lists(st.sampled_from([1.0, 2.0, 5.0]), min_size=8, max_size=8), st.randoms())
def test_one_standard_error_chooses_the_cheapest_within(table: Any, all_costs: list[float], random: Any) -> None:
    numbers, costs = [3 * i for i in range(len(table))], all_costs[: len(table)]
    means, complete = np.array([np.average(row) for row in table]), ~np.isnan(table).any(axis=1)
    if not complete.any():
        with pytest.raises(ValueError, match="no trial"):
            select_one_standard_error(table, costs, numbers)
        return
    chosen = select_one_standard_error(table, costs, numbers)
    assert complete[chosen // 3]
    best = max(range(len(table)), key=lambda i: (complete[i], means[i] if complete[i] else 0.0))
    error = np.std(table[best], ddof=1) / np.sqrt(table.shape[1]) if table.shape[1] > 1 else 0.0
    assert means[chosen // 3] >= means[best] - error - 1e-9
    inside = [i for i in np.flatnonzero(complete) if means[i] >= means[best] - error + 1e-9]
    assert all(costs[chosen // 3] <= costs[i] for i in inside)
    order = random.sample(range(len(table)), len(table))
    shuffled = select_one_standard_error(table[order], [costs[i] for i in order], [numbers[i] for i in order])
    assert shuffled == chosen


# The best has mean 0.90 and standard error 0.1 / sqrt(4) * sqrt(4 / 3) = 0.0577.
BEST = [0.8, 1.0, 0.8, 1.0]


@pytest.mark.parametrize(
    ("others", "costs", "chosen"),
    [
        ([[0.85] * 4, [0.84] * 4], [9.0, 5.0, 1.0], 11),
        ([[0.85] * 4, [0.843] * 4], [9.0, 5.0, 1.0], 12),
        ([[0.85] * 4, [0.86] * 4], [9.0, 5.0, 5.0], 12),
        ([[0.85] * 4, [0.85] * 4], [9.0, 5.0, 5.0], 11),
        ([[0.85] * 4, [0.99, 0.99, 0.99, math.nan]], [9.0, 9.5, 1.0], 10),
    ],
    ids=["outside", "inside", "better mean", "lower number", "failed fold"],
)
def test_one_standard_error_in_known_cases(others: list[list[float]], costs: list[float], chosen: int) -> None:
    assert select_one_standard_error(np.array([BEST, *others]), costs, [10, 11, 12]) == chosen


def test_with_two_folds_the_bests_worse_fold_is_within() -> None:
    assert select_one_standard_error(np.array([[0.9, 0.8], [0.8, 0.8], [0.7, 0.89]]), [3.0, 2.0, 1.0], [0, 1, 2]) == 1


def test_a_single_fold_has_no_standard_error() -> None:
    assert select_one_standard_error(np.array([[0.9], [0.91], [0.91]]), [1.0, 9.0, 2.0], [4, 5, 6]) == 5
