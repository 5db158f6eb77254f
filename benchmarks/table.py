"""The accuracies of every candidate of a space after each epoch and fold: `python -m benchmarks.table` records them.

Strategies are compared on this table in place of training, which takes seconds for what would be days. It is recorded
in parts, so that an interruption loses one part at most.
"""

import json
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import ParameterGrid

from app.tuning.search.datasets import DATASETS
from app.tuning.search.keys import derive_seed
from app.tuning.search.models import Value
from app.tuning.search.spec import JobSpec
from app.tuning.settings import settings

FILE = Path(__file__).with_name("digits_table.npz")
EPOCHS, FOLDS = 27, 3
PART = 24  # candidates
SPACE: dict[str, list[Value]] = {
    "batch_size": [16, 32, 64],
    "dropout_rate": [0.1, 0.3, 0.5],
    "learning_rate": [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3],
    "num_neurons": [16, 32, 64, 128],
    "optimizer": ["adam", "sgd"],
}
CANDIDATES: list[dict[str, Value]] = list(ParameterGrid(SPACE))


class Table(NamedTuple):
    """What was recorded of the candidates, in the order of `CANDIDATES`."""

    correct: NDArray[np.uint16]  # (candidates, folds, epochs): validated rows that were classified correctly
    rows: NDArray[np.int64]  # (folds,): validated rows
    seconds: NDArray[np.float32]  # (candidates,): of a typical epoch of a fold
    environment: dict[str, str]

    def accuracy(self, row: int, fold: int, epochs: int) -> float:
        """The accuracy of a candidate's fit."""
        return float(self.correct[row, fold, epochs - 1] / self.rows[fold])

    def mean(self, row: int, epochs: int) -> float:
        """A candidate's mean accuracy over the folds."""
        return float(np.average(self.correct[row, :, epochs - 1] / self.rows))

    @property
    def full(self) -> NDArray[np.float64]:
        """(candidates,): the mean accuracies after all epochs."""
        means: NDArray[np.float64] = np.average(self.correct[:, :, -1] / self.rows, axis=1)
        return means


def make_spec(search: dict[str, Any], **more: Any) -> JobSpec:
    """A job of which the table knows every fit."""
    evaluation = {"cv": FOLDS, "refit": False}
    return JobSpec.model_validate(
        {"dataset": {"name": "digits"}, "fixed": {"epochs": EPOCHS}, "evaluation": evaluation, "search": search, **more}
    )


def find_row(params: dict[str, Any]) -> int:
    """The candidate's place in the table."""
    return _ROWS[tuple(params[name] for name in sorted(SPACE))]


def load() -> Table:
    """The recorded table."""
    with np.load(FILE) as stored:
        environment = json.loads(str(stored["environment"]))
        return Table(stored["correct"], stored["rows"], stored["seconds"], environment)


def main() -> None:
    """Record what has not been recorded yet, then join the parts."""
    folder = settings().home / "digits-table"
    folder.mkdir(parents=True, exist_ok=True)
    candidates = iter(CANDIDATES)
    parts = []
    for number in range(-(-len(CANDIDATES) // PART)):
        some = list(islice(candidates, PART))
        part = folder / f"{number:03}.npz"
        if not part.exists():
            _record(some, part)
            print(f"{part} of {-(-len(CANDIDATES) // PART)}", flush=True)
        parts.append(np.load(part))
    joined: dict[str, Any] = {name: np.concatenate([part[name] for part in parts]) for name in ("correct", "seconds")}
    np.savez_compressed(FILE, rows=parts[0]["rows"], environment=parts[0]["environment"], **joined)
    print(f"{FILE}: {FILE.stat().st_size:,} bytes")


def _record(candidates: list[dict[str, Value]], part: Path) -> None:
    """Train the candidates as a worker does."""
    from worker.cnn import trainer
    from worker.datasets import load_dataset
    from worker.fit import split_rows
    from worker.training import Split, describe_environment

    spec = make_spec({"strategy": "grid", "param_grid": SPACE})
    arrays, dataset = load_dataset("digits", lambda: None), DATASETS["digits"]
    correct = np.zeros((len(candidates), FOLDS, EPOCHS), np.uint16)
    seconds = np.zeros((len(candidates), FOLDS, EPOCHS), np.float32)
    folds = [split_rows(spec, fold, arrays) for fold in range(FOLDS)]
    for index, params in enumerate(candidates):
        for fold, (rows, held_out) in enumerate(folds):
            images = arrays.x_train, arrays.y_train
            split = Split(*images, rows, *images, held_out, dataset.scale, dataset.classes, True)
            found: list[Any] = []
            hyperparameters = spec.hyperparameters(params)
            trainer.train_network(hyperparameters, split, derive_seed(spec, fold), lambda within: None, found.append)
            correct[index, fold] = [round(epoch.val_accuracy * len(held_out)) for epoch in found]
            seconds[index, fold] = [epoch.seconds for epoch in found]
    sizes = [len(held_out) for _, held_out in folds]
    environment = json.dumps({**describe_environment(), "dataset_sha256": arrays.sha256})
    typical = np.median(seconds, axis=(1, 2))
    unfinished = part.with_suffix(".new.npz")
    np.savez(unfinished, correct=correct, rows=sizes, seconds=typical, environment=environment)
    unfinished.replace(part)


_ROWS = {tuple(params[name] for name in sorted(SPACE)): row for row, params in enumerate(CANDIDATES)}

if __name__ == "__main__":
    main()
