"""Races: the folds of a candidate that cannot win are not trained.

A race goes on in steps. Each is decided when all fits of the step before have ended, from their scores alone.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

LEADERS = 4  # candidates at least that get all folds before the others are compared with them
ScoreTable = NDArray[np.float64]
Flags = NDArray[np.bool_]
Packed = list[list[bytes | None]]  # (candidates, folds): a bit for each validated row, 1 if it was right


class RaceStep(NamedTuple):
    """The fits that are trained next, by candidate and fold, and the candidates that are out."""

    issue: list[tuple[int, int]]
    out: list[int]


def race_lossless(
    scores: ScoreTable, failed: Flags, settled: Flags, places: int, burn_in: int, *, last: bool, highest: float = 1.0
) -> RaceStep:
    """The next step of a race for `places` among candidates, after which the same ones win as without it.

    `scores` and `failed`, (candidates, folds), say what each fit has found, NaN and False where it was not trained;
    `settled`, (candidates,), who is out already. All candidates have their first `burn_in` folds. The leaders by these
    get all others; then all that can still win get one fold more each time. A candidate is out with a failed fold, or
    once `highest`, the greatest score that there can be, on each remaining fold would not take it to a place. Of equal
    means the first wins in the `last` rung, and the last ones in the others (`rungs.select_top`).
    """
    broken = np.any(failed, axis=1)
    alive = ~settled & ~broken
    out = [int(index) for index in np.flatnonzero(broken & ~settled)]
    done = ~np.isnan(scores)
    # The mean of a trial, with the highest score for what is missing: rounding never lets the mean exceed this bound.
    bounds = np.array([np.average(row) for row in np.where(done, scores, highest)])
    ahead = _order(bounds, last)
    complete = [int(index) for index in ahead if alive[index] and done[index].all()]
    if len(complete) < places and (leaders := _find_leaders(scores, alive, done, max(LEADERS, places), burn_in)):
        return RaceStep([(index, fold) for index in leaders for fold in np.flatnonzero(~done[index]).tolist()], out)
    if len(complete) >= places:
        behind = ahead[int(np.flatnonzero(ahead == complete[places - 1])[0]) + 1 :]
        out += [int(index) for index in behind if alive[index] and not done[index].all()]
    left = (int(index) for index in np.flatnonzero(alive & ~done.all(axis=1)) if index not in set(out))
    return RaceStep([(index, int(np.flatnonzero(~done[index])[0])) for index in left], out)


def race_bootstrap(
    scores: ScoreTable,
    failed: Flags,
    settled: Flags,
    places: int,
    burn_in: int,
    *,
    last: bool,
    hits: Packed,
    alpha: float,
) -> RaceStep:
    """As `race_lossless`, and a candidate is out too if it would hardly take a place from those that have all folds.

    That is if, on the rows of its folds so far, fewer than a share `alpha` of paired bootstrap samples put it before
    the candidate of the last place: the rule of BBCD-CV (Tsamardinos and others, Machine Learning 107, 2018). The
    difference of a sample depends on two counts of rows alone, and is taken as normally distributed, which leaves
    nothing to chance. Folds without hits say nothing. `scores` are accuracies.
    """
    step = race_lossless(scores, failed, settled, places, burn_in, last=last)
    done = ~np.isnan(scores)
    alive = ~settled & ~np.any(failed, axis=1)
    ahead = _order(np.array([np.average(row) for row in np.where(done, scores, 1.0)]), last)
    complete = [int(index) for index in ahead if alive[index] and done[index].all()]
    if len(complete) < places:
        return step
    rival = hits[complete[places - 1]]
    waiting = dict.fromkeys(index for index, _ in step.issue if index not in complete)
    hopeless = {index for index in waiting if _chance_to_beat(hits[index], rival) < alpha}
    return RaceStep([one for one in step.issue if one[0] not in hopeless], [*step.out, *sorted(hopeless)])


def _chance_to_beat(own: list[bytes | None], rival: list[bytes | None]) -> float:
    """The share of paired bootstrap samples of the rows in which the first is better than the second."""
    pairs = [
        (np.frombuffer(a, np.uint8), np.frombuffer(b, np.uint8)) for a, b in zip(own, rival, strict=True) if a and b
    ]
    won = sum(int(np.bitwise_count(a & ~b).sum()) for a, b in pairs)
    lost = sum(int(np.bitwise_count(b & ~a).sum()) for a, b in pairs)
    rows = sum(8 * len(a) for a, _ in pairs)
    if won + lost == 0:
        return 0.5
    variance = won + lost - (won - lost) ** 2 / rows
    if variance <= 0:
        return float(won > lost)
    return 0.5 * math.erfc((lost - won) / math.sqrt(2 * variance))


def _order(scores: ScoreTable, last: bool) -> NDArray[np.intp]:
    """The candidates from the best to the worst, by the rule of the rung for equal scores."""
    return np.argsort(-scores, kind="stable") if last else np.argsort(scores, kind="stable")[::-1]


def _find_leaders(scores: ScoreTable, alive: Flags, done: Flags, number: int, burn_in: int) -> list[int]:
    """So many candidates, complete ones included, that lead by their first folds; empty if all of them are complete."""
    means = np.array([np.average(row) for row in scores[:, :burn_in]])
    order = [int(index) for index in np.argsort(-means, kind="stable") if alive[index]]
    return [index for index in order[:number] if not done[index].all()]
