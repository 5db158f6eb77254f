"""Which hyperparameters matter: exact on a full grid, else by PED-ANOVA; with the doubt that is left.

On a full grid the share of the variance that a hyperparameter, or a pair, explains is arithmetic (functional ANOVA).
Else PED-ANOVA (Watanabe, Bansal and Hutter, 2023; arXiv 2304.10255) compares how the best tenth of the trials and all
of them are spread over each hyperparameter.
"""

from collections.abc import Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from app.tuning.search.models import Value
from app.tuning.search.spaces import LogUniform, RandInt

MIN_TRIALS = 20
BOOTSTRAPS = 100  # for an interval of 95%
TARGET = 0.1  # the share of the trials that counts as good
CELLS = 50  # that a range is cut into
MIN_BANDWIDTH = 0.5 / 1.64  # cells: nine tenths of a kernel in its own cell
SEED = 0

Floats = NDArray[np.float64]


class Effect(NamedTuple):
    """The share of the variance that hyperparameters explain together, with its 95% interval if there is any."""

    names: tuple[str, ...]
    share: float
    low: float | None = None
    high: float | None = None


class Importance(NamedTuple):
    """The effects, largest first; `noise` is the share of the variance that comes from the folds."""

    method: str
    effects: list[Effect]
    pairs: list[Effect] | None = None
    noise: float | None = None


def measure_importance(params: Sequence[dict[str, Value]], scores: Floats, spaces: dict[str, Any]) -> Importance | str:
    """The importance of hyperparameters, or in a sentence why it cannot be told.

    `params` has a candidate for each row of `scores`, of shape (candidates, folds), of which more is better. `spaces`
    has what each hyperparameter was drawn from, as far as that is known.
    """
    if len(params) < MIN_TRIALS:
        return f"{len(params)} trials have a score on all folds; {MIN_TRIALS} are needed to tell what matters."
    means = scores.mean(axis=1)
    levels = {name: list(dict.fromkeys(one[name] for one in params)) for name in params[0]}
    levels = {name: values for name, values in levels.items() if len(values) > 1}
    if not levels or np.ptp(means) == 0:
        return "All trials have the same hyperparameters or the same score."
    if (grid := _arrange_grid(params, scores, levels)) is not None:
        return _explain_grid(list(levels), grid)
    return _explain_sample(params, means, levels, spaces)


def _arrange_grid(params: Sequence[dict[str, Value]], scores: Floats, levels: dict[str, list[Value]]) -> Floats | None:
    """The scores by the level of each hyperparameter, and the fold; None if some combination is missing or double."""
    shape = [len(values) for values in levels.values()]
    if np.prod(shape, dtype=np.float64) != len(params):
        return None
    ranks = {name: {value: index for index, value in enumerate(values)} for name, values in levels.items()}
    places = [tuple(ranks[name][one[name]] for name in levels) for one in params]
    if len(set(places)) < len(places):
        return None
    grid = np.empty((*shape, scores.shape[1]))
    for place, row in zip(places, scores, strict=True):
        grid[place] = row
    return grid


def _explain_grid(names: list[str], grid: Floats) -> Importance:
    axes = [(axis,) for axis in range(len(names))]
    pairs = list(combinations(range(len(names)), 2))

    def share(means: Floats) -> Floats:
        return _decompose(means, axes, pairs)

    folds = grid.shape[-1]
    draws = np.random.default_rng(SEED).integers(folds, size=(BOOTSTRAPS if folds > 1 else 0, folds))
    resampled = [share(grid[..., drawn].mean(axis=-1)) for drawn in draws]
    effects = _describe(
        [tuple(names[axis] for axis in one) for one in [*axes, *pairs]], share(grid.mean(-1)), resampled
    )
    main, together = effects[: len(axes)], effects[len(axes) :]
    return Importance("exact", _sort(main), _sort(together), _measure_noise(grid.reshape(-1, folds)))


def _decompose(means: Floats, axes: list[tuple[int]], pairs: list[tuple[int, int]]) -> Floats:
    """The shares of the variance of the means that each axis, and then each pair beyond its axes, explains."""

    def explained(*kept: int) -> float:
        rest = tuple(axis for axis in range(means.ndim) if axis not in kept)
        return float(means.mean(axis=rest).var())

    alone = [explained(axis) for (axis,) in axes]
    together = [explained(one, other) - alone[one] - alone[other] for one, other in pairs]
    total = float(means.var())
    return np.clip(np.array([*alone, *together]) / total, 0.0, 1.0) if total > 0 else np.zeros(len(axes) + len(pairs))


def _measure_noise(scores: Floats) -> float | None:
    """The share of the variance that the folds' scatter explains; that a fold is harder for all does not count."""
    candidates, folds = scores.shape
    if folds < 2:
        return None
    residuals = scores - scores.mean(axis=1, keepdims=True) - scores.mean(axis=0) + scores.mean()
    scatter = float((residuals**2).sum()) / ((candidates - 1) * (folds - 1))
    return float(min(1.0, scatter / folds / scores.mean(axis=1).var(ddof=1)))


def _explain_sample(
    params: Sequence[dict[str, Value]], means: Floats, levels: dict[str, list[Value]], spaces: dict[str, Any]
) -> Importance:
    columns = [_cut_into_cells([one[name] for one in params], levels[name], spaces.get(name)) for name in levels]

    def share(rows: NDArray[np.int64]) -> Floats:
        return _compare_densities([column._replace(cells=column.cells[rows]) for column in columns], means[rows])

    everything = np.arange(len(means))
    generator = np.random.default_rng(SEED)
    resampled = [share(generator.integers(len(means), size=len(means))) for _ in range(BOOTSTRAPS)]
    return Importance("ped_anova", _sort(_describe([(name,) for name in levels], share(everything), resampled)))


class _Column(NamedTuple):
    cells: NDArray[np.int64]  # of each trial
    width: int  # in cells
    ordered: bool


def _cut_into_cells(values: list[Value], levels: list[Value], space: Any) -> _Column:
    """Put values into the cells of what they were drawn from; where that is no range, each level is a cell."""
    if space is None or isinstance(space, list):
        ranks = {value: index for index, value in enumerate(levels)}
        return _Column(np.array([ranks[value] for value in values]), len(levels), ordered=False)
    low, high = space.support
    count = min(round(high - low) + 1, CELLS) if isinstance(space, RandInt) else CELLS
    numbers = np.array(values, dtype=np.float64)
    if isinstance(space, LogUniform):
        low, high, numbers = np.log(low), np.log(high), np.log(numbers)
    cells = np.ceil((numbers - low) / (high - low) * (count - 1) - 0.5).astype(np.int64)
    return _Column(np.clip(cells, 0, count - 1), count, ordered=True)


def _compare_densities(columns: list[_Column], means: Floats) -> Floats:
    """Each column's Pearson divergence between the density of the best trials and that of all, as shares of the sum."""
    worst = np.sort(means)[::-1][int(np.ceil(TARGET * len(means))) - 1]
    best = means >= worst
    divergences = np.array([_diverge(_estimate(one, best), _estimate(one, best | True)) for one in columns])
    total = divergences.sum()
    return divergences / total if total > 0 else np.full(len(columns), 1 / len(columns))


def _diverge(best: Floats, everything: Floats) -> float:
    best, everything = best + 1e-12, everything + 1e-12
    return float(everything @ (best / everything - 1) ** 2)


def _estimate(column: _Column, which: NDArray[np.bool_]) -> Floats:
    """The density over the cells: a kernel for each trial, and one over all cells as a prior."""
    counts = np.bincount(column.cells[which], minlength=column.width)
    occupied = np.flatnonzero(counts)
    kernels = _place_kernels if column.ordered else _spread_kernels
    weights = np.append(counts[occupied], 1.0)
    density: Floats = weights / weights.sum() @ kernels(occupied, counts[occupied], column.width)
    return density


def _spread_kernels(occupied: NDArray[np.int64], _: NDArray[np.int64], cells: int) -> Floats:
    """For levels without an order: all but a little of each kernel in its own cell."""
    kernels = np.full((len(occupied) + 1, cells), 1 / (len(occupied) + 1))
    kernels[np.arange(len(occupied)), occupied] += 1
    normal: Floats = kernels / kernels.sum(axis=1, keepdims=True)
    return normal


def _place_kernels(occupied: NDArray[np.int64], counts: NDArray[np.int64], cells: int) -> Floats:
    """Normal kernels of Scott's bandwidth, cut off at the ends and integrated over each cell."""
    total, below = int(counts.sum()), np.cumsum(counts)
    mean = occupied @ counts / total
    deviation = np.sqrt((occupied - mean) ** 2 @ counts / max(1, total - 1))
    lower = occupied[np.searchsorted(below, total // 4, side="left")]
    upper = occupied[min(len(occupied) - 1, int(np.searchsorted(below, total * 3 // 4, side="right")))]
    bandwidth = max(MIN_BANDWIDTH, 1.059 * min((upper - lower) / 1.34, deviation) * total**-0.2)
    centres = np.append(occupied.astype(np.float64), (cells - 1) / 2)
    widths = np.append(np.full(len(occupied), bandwidth), float(cells))
    edges = (np.arange(cells + 1) - 0.5 - centres[:, None]) / widths[:, None]
    masses = np.diff(ndtr(edges), axis=1)
    normal: Floats = masses / masses.sum(axis=1, keepdims=True)
    return normal


def _describe(names: list[tuple[str, ...]], shares: Floats, resampled: list[Floats]) -> list[Effect]:
    if not resampled:
        return [Effect(name, float(share)) for name, share in zip(names, shares, strict=True)]
    low, high = np.percentile(resampled, [2.5, 97.5], axis=0)
    return [Effect(name, *map(float, cells)) for name, *cells in zip(names, shares, low, high, strict=True)]


def _sort(effects: list[Effect]) -> list[Effect]:
    return sorted(effects, key=lambda effect: -effect.share)
