"""Successive halving: how many candidates get how many resources in each rung, and which of them go on.

`plan_halving` and `select_top` are those of scikit-learn 1.9.1's `HalvingGridSearchCV` and `HalvingRandomSearchCV`, row
for row, with two differences: a candidate that has failed never goes on (scikit-learn lets it where too few are left),
and the sort is stable, so that the order of equal scores is defined.
"""

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import count
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Means = NDArray[np.float64]
Indices = NDArray[np.intp]


class Rung(NamedTuple):
    """So many candidates with so many resources each."""

    bracket: int
    iter: int
    n_candidates: int
    n_resources: int


def plan_halving(
    n_candidates: int, least: int, most: int, factor: float, aggressive_elimination: bool, exhaust: bool
) -> list[Rung]:
    """The rungs from `least` to at most `most` resources, each with one in `factor` candidates of the one before.

    With `exhaust` the first rung gets as many resources as let the last one use the most. The number of rungs is
    computed with logarithms as scikit-learn does, which for 3^5 candidates and factor 3 is one too few.
    """
    required = 1 + _floor_log(n_candidates, factor)
    first = max(least, most // factor ** (required - 1)) if exhaust else least
    possible = 1 + _floor_log(most // first, factor)
    rungs: list[Rung] = []
    for iteration in range(required if aggressive_elimination else min(possible, required)):
        power = max(0, iteration - required + possible) if aggressive_elimination else iteration
        rungs.append(Rung(0, iteration, n_candidates, min(int(factor**power * first), most)))
        n_candidates = math.ceil(n_candidates / factor)
    return rungs


def plan_levels(n_candidates: int, levels: Sequence[int], factor: float) -> list[Rung]:
    """Rungs of the given resources, each with one in `factor` candidates of the one before."""
    rungs: list[Rung] = []
    for iteration, level in enumerate(levels):
        rungs.append(Rung(0, iteration, n_candidates, level))
        n_candidates = math.ceil(n_candidates / factor)
    return rungs


def plan_hyperband(least: int, most: int, factor: float, brackets: int | None) -> list[Rung]:
    """The rungs of all brackets, or of the first so many, after Li and others (JMLR 18, 2018), in exact arithmetic.

    A bracket of s + 1 rungs begins with ceil((s_max + 1) / (s + 1) factor^s) candidates; its rungs get
    `most` / factor^s, ..., `most` / factor, `most` resources, rounded down, and keep one in `factor` candidates.
    """
    eta = Fraction(factor)
    deepest = next(power for power in count() if least * eta ** (power + 1) > most)
    rungs: list[Rung] = []
    for bracket, depth in enumerate(range(deepest, -1, -1)):
        if brackets is not None and bracket == brackets:
            break
        candidates = math.ceil(Fraction(deepest + 1, depth + 1) * eta**depth)
        for iteration in range(depth + 1):
            kept = max(1, math.floor(candidates / eta**iteration))
            rungs.append(Rung(bracket, iteration, kept, math.floor(most / eta ** (depth - iteration))))
    return rungs


def select_top(means: Means, places: int) -> Indices:
    """The candidates that go on, ascending by mean: their order in the next rung.

    `means` are in the order of the rung, NaN for one that has failed. Of equal means the later candidates go on.
    """
    order = np.argsort(means, kind="stable")[: np.count_nonzero(~np.isnan(means))]  # NaN come last
    return order[max(0, len(order) - places) :]


def decide_early(means: Means, ended: NDArray[np.bool_], places: int) -> tuple[Indices, Indices]:
    """The candidates that go on, and those that do not, whatever the means of those that have not ended will be.

    Consistent with `select_top`: when all have ended it is the same decision.
    """
    known = np.flatnonzero(ended)
    order = known[select_top(means[known], len(known))][::-1]  # best first; failed ones are not in it
    unknown = len(means) - len(known)
    # Each of the unknown may yet take a place before any of these.
    certain = order[: max(0, places - unknown)]
    failed = known[np.isnan(means[known])]
    return certain, np.concatenate([order[places:], failed])


def select_best(means: Means) -> int | None:
    """The first of the best in the order of the last rung; None if all have failed."""
    return int(np.nanargmax(means)) if np.count_nonzero(~np.isnan(means)) else None


def _floor_log(number: int | float, base: float) -> int:
    return math.floor(math.log(number, base))
