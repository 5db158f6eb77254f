"""Which trial is chosen, which cannot be told from it, and what having chosen the best of many is worth.

Hits are one bool for each validated row, true where it was classified correctly; all trials of a call have the same
rows in the same order.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Hits = NDArray[np.bool_]
_Counts = NDArray[np.uint8]  # (resamples, rows): how often a resample drew a row

RESAMPLES = 1000
ALPHA = 0.05
_ROWS = 4096  # multiplied at a time
_COUNTS_BYTES = 2**26
_ROUNDING = 1e-12  # far below one row's share of an accuracy


class Corrected(NamedTuple):
    """An accuracy without the optimism of having chosen the best, and the bounds of its 95% interval."""

    accuracy: float
    ci95: tuple[float, float]


def unpack_hits(folds: Sequence[bytes], sizes: Sequence[int]) -> Hits:
    """The hits of one trial from those of its folds, each packed by `np.packbits`, and the folds' numbers of rows.

    Raises ValueError if a fold has not as many bytes as its rows take.
    """
    if [len(fold) for fold in folds] != [-(-size // 8) for size in sizes]:
        raise ValueError(f"folds of {list(sizes)} rows do not take {[len(fold) for fold in folds]} bytes")
    bits = [np.unpackbits(np.frombuffer(f, np.uint8), count=size) for f, size in zip(folds, sizes, strict=True)]
    return np.concatenate(bits).astype(np.bool_)


def find_tied(hits: Mapping[int, Hits], winner: int) -> list[int]:
    """Numbers of the other trials that cannot be told from the winner (p > 0.05), ascending.

    McNemar's exact test, two-sided: of the rows that only one of the two classifies correctly, the winner's share is
    compared with a half. A paired bootstrap depends on the same two counts and adds the noise of its draws. The test is
    the only one of five with an acceptable type I error where each algorithm is run once (Dietterich, Neural
    Computation 10, 1998). It says nothing of other seeds, and compares each trial with the winner alone: with many
    trials some that are as good will look worse.
    """
    from scipy.special import bdtr  # so that processes which never compare do not load it

    best = hits[winner]
    others = sorted(number for number in hits if number != winner)
    both = np.array([np.count_nonzero(hits[number] & best) for number in others])
    lost = np.count_nonzero(best) - both
    won = np.array([np.count_nonzero(hits[number]) for number in others]) - both
    p = 2 * bdtr(np.minimum(won, lost), won + lost, 0.5)
    return [number for number, value in zip(others, p, strict=True) if value > ALPHA]


def correct_accuracy(hits: Mapping[int, Hits], seed: int) -> Corrected | None:
    """The accuracy to expect of the best of these trials: BBC-CV, which bootstraps the choice itself.

    In each of 1,000 resamples of the rows the trial with the most hits is chosen (of equals the lowest number), and
    measured on the rows that were not drawn; the result is the mean and the middle 95% of these accuracies
    (Tsamardinos, Greasidou and Borboudakis, Machine Learning 107, 2018). The interval is wide rather than narrow, as
    only 37% of the rows are left out of a resample. Give it every trial that the winner was chosen from, each row once.
    Hits of all folds are pooled, which weighs folds by their rows. The result is the same on every processor: all
    counts are whole numbers below 2**24, which float32 holds exactly.

    Returns None with fewer than two rows: then none is left to measure on.
    """
    trials = [hits[number] for number in sorted(hits)]
    rows = len(trials[0])
    if rows < 2:
        return None
    random = np.random.Generator(np.random.SFC64(seed))
    at_a_time = max(1, _COUNTS_BYTES // rows)
    accuracies: list[float] = []
    for start in range(0, RESAMPLES, at_a_time):
        counts = _resample(random, min(at_a_time, RESAMPLES - start), rows)
        chosen = _count_hits(trials, counts).argmax(axis=1)
        accuracies += _measure_left_out(trials, counts, chosen)
    return _summarize(accuracies)


def _resample(random: np.random.Generator, resamples: int, rows: int) -> _Counts:
    """Draw as many rows as there are, with replacement, for each resample."""
    counts = np.empty((resamples, rows), np.uint8)
    for one in counts:
        one[:] = np.bincount(random.integers(0, rows, rows, np.int32), minlength=rows)
    return counts


def _count_hits(trials: list[Hits], counts: _Counts) -> NDArray[np.float32]:
    """Hits among the rows drawn, (resamples, trials)."""
    total = np.zeros((len(counts), len(trials)), np.float32)
    for start in range(0, len(trials[0]), _ROWS):
        part = np.stack([trial[start : start + _ROWS] for trial in trials]).astype(np.float32)
        total += counts[:, start : start + _ROWS].astype(np.float32) @ part.T
    return total


def _measure_left_out(trials: list[Hits], counts: _Counts, chosen: NDArray[np.intp]) -> list[float]:
    """The chosen trials' accuracies on the rows not drawn; a resample that drew every row has none."""
    accuracies: list[float] = []
    for drawn, trial in zip(counts, chosen, strict=True):
        left_out = drawn == 0
        if rows := np.count_nonzero(left_out):
            accuracies.append(int(np.count_nonzero(trials[trial] & left_out)) / int(rows))
    return accuracies


def _summarize(accuracies: list[float]) -> Corrected:
    """Mean, and the middle 95% of the values."""
    ordered, beyond = sorted(accuracies), len(accuracies) // 40
    return Corrected(math.fsum(ordered) / len(ordered), (ordered[beyond], ordered[-1 - beyond]))


def select_one_standard_error(accuracies: NDArray[np.float64], costs: Sequence[float], numbers: Sequence[int]) -> int:
    """The number of the cheapest trial whose mean is within one standard error of the best's.

    `accuracies` (trials, folds) has NaN where a fold failed; such a trial is never chosen. `costs` are multiply-adds.
    Of equal costs the better mean is chosen, of equal means the lower number. The standard error is that of the best's
    folds, sd / sqrt(folds) with n - 1, as in glmnet's `lambda.1se` and tidymodels' `select_by_one_std_err`
    (Breiman et al., Classification and Regression Trees, 1984). A single fold has none: the best is returned.

    Raises ValueError if every trial has a failed fold.
    """
    means = [float(np.average(row)) for row in accuracies]  # as a trial's validation accuracy is computed
    complete = [i for i, mean in enumerate(means) if not math.isnan(mean)]
    if not complete:
        raise ValueError("no trial has an accuracy for each of its folds")
    best = min(complete, key=lambda i: (-means[i], numbers[i]))
    folds = accuracies.shape[1]
    if folds == 1:
        return numbers[best]
    # With two folds the bound is the best's worse fold: a mean equal to it is common, and counts as within.
    bound = means[best] - float(np.std(accuracies[best], ddof=1)) / math.sqrt(folds) - _ROUNDING
    within = [i for i in complete if means[i] >= bound]
    return numbers[min(within, key=lambda i: (costs[i], -means[i], numbers[i]))]
