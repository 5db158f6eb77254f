"""How good a candidate each strategy finds for the same number of epochs, on a recorded table of real training."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import optuna_table, replay, table
from benchmarks.rows import Row, Size

PART = "strategies.regret"
BUDGETS = (357, 1071)  # epochs of each fold: hyperband's own number, and three times as many
RESAMPLES = 10_000
Regrets = NDArray[np.float64]


def measure(size: Size) -> Iterator[Row]:
    """Measure Tunewell's strategies, then Optuna's, with the same seeds."""
    recorded = table.load()
    seeds = list(range(size.of(100, 10)))
    for budget in BUDGETS:
        base: Regrets | None = None
        for title, found in _run_all(budget, seeds, recorded):
            regrets = rate(recorded, [row for row, _ in found])
            base = regrets if base is None else base
            spent = float(np.mean([epochs for _, epochs in found]))
            yield _row(f"{title}, {budget} epochs", regrets, base, spent)


def rate(recorded: table.Table, rows: list[int]) -> Regrets:
    """Normalised regret of the accuracies after all epochs: 0 for the table's best, 1 for its median candidate."""
    full = recorded.full
    return np.asarray((full.max() - full[rows]) / (full.max() - np.median(full)))


def _run_all(budget: int, seeds: list[int], recorded: table.Table) -> Iterator[tuple[str, list[replay.Found]]]:
    for title, searches in replay.make_searches(budget).items():
        yield title, [_run_in_turn(searches, seed, recorded) for seed in seeds]
    for way in optuna_table.WAYS:
        ran = optuna_table.run_studies(way, budget, seeds)
        yield f"Optuna's {way}, two processes", [replay.Found(one.row, one.epochs) for one in ran]


def _run_in_turn(searches: list[replay.Search], seed: int, recorded: table.Table) -> replay.Found:
    """The best of several searches with seeds of their own."""
    found = [replay.replay(search, seed + 1000 * turn, recorded) for turn, search in enumerate(searches)]
    best = max(found, key=lambda one: recorded.full[one.row])
    return replay.Found(best.row, sum(one.epochs for one in found))


def _row(figure: str, regrets: Regrets, base: Regrets, spent: float) -> Row:
    low, middle, high = np.percentile(regrets, (25, 50, 75))
    note = f"median {middle:.3f}, quartiles {low:.3f} and {high:.3f}; {spent:.0f} epochs"
    if base is not regrets:
        note += f"; {_compare(regrets - base)}"
    details: dict[str, Any] = {"regrets": [round(float(one), 4) for one in regrets], "epochs": spent}
    mean = float(regrets.mean())
    return Row(PART, figure, mean, ratio=mean / float(base.mean()), to="random", note=note, details=details)


def _compare(less: Regrets) -> str:
    draws = np.random.default_rng(0).choice(less, (RESAMPLES, len(less))).mean(axis=1)
    ends = " to ".join(f"{end:+.3f}" for end in np.percentile(draws, (2.5, 97.5)))
    better, worse = int((less < 0).sum()), int((less > 0).sum())
    counts = f"better in {better} of {len(less)}, worse in {worse}"
    return f"less random's with the same seed {less.mean():+.3f} ({ends}), {counts}"
