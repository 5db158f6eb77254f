"""What checkpoints cost, as a share of the training that they save: a halving search's rungs of 1, 3 and 9 epochs."""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple
from unittest.mock import patch

from app.tuning.settings import settings
from benchmarks.rows import Row, Size
from benchmarks.together import alone

PART = "strategies.checkpoints"
WIDTHS = (128, 256, 512)
RUNGS = (1, 3, 9)
SAMPLES, SCORED = 4_000, 2_000  # a fold of the example
GOAL = 0.03


class Climb(NamedTuple):
    """A fit's way through the rungs: seconds of writing and reading checkpoints, and of an epoch with its scoring."""

    save: float
    load: float
    epoch: float


def measure(size: Size) -> Iterator[Row]:
    """Measure each width in one process alone."""
    for width, climbs in alone(time_climbs, size.of(3, 1)).items():
        save, load, epoch = (median(climb[place] for climb in climbs) for place in range(3))
        saved = sum(RUNGS[:-1]) * epoch
        note = f"{1e3 * save:.0f} ms to write {len(RUNGS) - 1}, {1e3 * load:.0f} ms to read them; "
        note += f"rungs of {', '.join(map(str, RUNGS))} epochs of {epoch:.2f} s, {sum(RUNGS[:-1])} of them saved"
        share = (save + load) / saved
        goal = (share / GOAL, f"the aim, {GOAL:.0%}")
        yield Row(
            PART, f"checkpoints to training saved, {width} neurons", 100 * share, "%", *goal, note, details=climbs
        )


def time_climbs(repeats: int) -> dict[int, list[Climb]]:
    """In a separate process: fits of each width through all rungs, after one that compiles."""
    from benchmarks import trainers

    with TemporaryDirectory() as folder:
        os.environ["TUNEWELL_HOME"] = folder
        settings.cache_clear()
        split = trainers.Bytes().split(SAMPLES, SCORED)._replace(score_every_epoch=True)
        found: dict[int, list[Climb]] = {}
        for width in WIDTHS:
            trainers.train(trainers.hyperparameters(num_neurons=width), split)
            found[width] = [_climb(width, split, number) for number in range(repeats)]
    return found


def _climb(width: int, split: Any, number: int) -> Climb:
    """Train to each rung, each time from the checkpoint of the one before."""
    from benchmarks import trainers
    from worker.checkpoints import FitCheckpoints
    from worker.cnn import trainer
    from worker.compiled.state import Keeper

    spent: Counter[str] = Counter()
    seconds: list[float] = []

    def timed(name: str) -> Callable[..., None]:
        method = getattr(Keeper, name)

        def run(*arguments: Any) -> None:
            spent[name] += trainers.seconds(lambda: method(*arguments))  # type: ignore[assignment]

        return run

    def keep(epoch: Any) -> None:
        seconds.append(epoch.seconds)

    with patch.multiple(Keeper, end_epoch=timed("end_epoch"), resume=timed("resume")):
        for epochs in RUNGS:
            params = trainers.hyperparameters(num_neurons=width, epochs=epochs)
            checkpoints = FitCheckpoints(f"bench{width}-{number}", keeps_last=epochs < RUNGS[-1])
            scores = trainer.train_network(params, split, 1, lambda within: None, keep, checkpoints)
            assert scores.resumed_from == max((rung for rung in RUNGS if rung < epochs), default=None)
    return Climb(spent["end_epoch"], spent["resume"], median(seconds))
