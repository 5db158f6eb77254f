"""A fit that goes on from a snapshot gives the bits of one that was never interrupted."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.tuning.search.models import Cnn
from tests.support.fitting import DEFAULTS, SPLIT, Hyperparameters, train, training
from worker.compiled import state
from worker.compiled import trainer as loop

ROOT = Path(__file__).parents[2]
SEED = 9
KINDS: dict[str, Hyperparameters] = {
    "adam with dropout": {"optimizer": "adam", "dropout_rate": 0.4},
    "adamw with weight decay": {"optimizer": "adamw", "weight_decay": 0.01},
    "nadam with penalties": {"optimizer": "nadam", "l1": 0.001, "l2": 0.01},
    "rmsprop": {"optimizer": "rmsprop"},
    "rmsprop with momentum": {"optimizer": "rmsprop", "momentum": 0.5},
    "adagrad": {"optimizer": "adagrad"},
    "sgd": {"optimizer": "sgd"},
    "sgd with momentum, two blocks": {"optimizer": "sgd", "momentum": 0.9, "conv_blocks": 2, "kernel_size": 2},
}


class Kept:
    """Snapshots in memory, one for each epoch."""

    def __init__(self, keeps_last: bool = True) -> None:
        self.keeps_last = keeps_last
        self.snapshots: dict[int, state.Snapshot] = {}

    def load(self, epochs: int) -> state.Snapshot | None:
        known = [epoch for epoch in self.snapshots if epoch <= epochs]
        return self.snapshots[max(known)] if known else None

    def save(self, snapshot: state.Snapshot) -> None:
        self.snapshots[len(snapshot.epochs)] = state.Snapshot(list(snapshot.epochs), snapshot.arrays)

    def discard(self) -> None:
        self.snapshots.clear()


def fit(changes: Hyperparameters, checkpoints: Any, epochs: int = 3) -> tuple[Any, list[Any], list[Any]]:
    """The scores, the epochs without their seconds, and the final weights and the optimizer's state of a fit."""
    rows: list[state.Epoch] = []
    hyperparameters = {**DEFAULTS, **changes, "epochs": epochs}
    scores = training.train_network(hyperparameters, SPLIT, SEED, lambda _: None, rows.append, checkpoints)
    program = next(reversed(loop._programs.values())).program
    found = (scores.accuracy, scores.loss, scores.hits)
    return found, [row[:5] for row in rows], [array.tobytes() for array in program.snapshot()]


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_fit_equals_an_uninterrupted_one_to_the_bit(kind: str) -> None:
    changes = KINDS[kind]
    whole = fit(changes, None)
    for stop in (1, 2, 3):
        kept = Kept()
        assert fit(changes, kept, epochs=stop)[1] == whole[1][:stop]
        train({**changes, "learning_rate": 0.1}, seed=6)  # another fit with the same program
        assert fit(changes, kept) == whole
    assert set(kept.snapshots) == {3}


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_is_as_large_as_a_preview_says(kind: str) -> None:
    """At most; and with nadam, which keeps the most, hardly less."""
    kept = Kept()
    fit(KINDS[kind], kept, epochs=1)
    [snapshot] = kept.snapshots.values()
    side = round(SPLIT.images[0].size ** 0.5)
    network = Cnn.model_validate({**DEFAULTS, **KINDS[kind]})
    spare = network.checkpoint_bytes((side, side, 1), SPLIT.classes) - sum(part.nbytes for part in snapshot.arrays)
    assert spare >= 2**19 - 64
    assert (spare <= 2**19) == kind.startswith("nadam")


def test_a_fit_is_resumed_again_and_again() -> None:
    kept = Kept()
    for epochs in (1, 2, 3):
        last = fit(KINDS["nadam with penalties"], kept, epochs)
    assert last == fit(KINDS["nadam with penalties"], None)


def test_a_refit_which_is_scored_once_is_resumed() -> None:
    refit = SPLIT._replace(score_every_epoch=False)
    rows: list[state.Epoch] = []
    kept = Kept()
    for epochs in (1, 3):
        rows.clear()
        resumed = training.train_network({**DEFAULTS, "epochs": epochs}, refit, SEED, lambda _: None, rows.append, kept)
    whole = training.train_network({**DEFAULTS, "epochs": 3}, refit, SEED, lambda _: None, lambda _: None)
    assert (resumed.accuracy, resumed.loss, resumed.hits) == (whole.accuracy, whole.loss, whole.hits)
    assert [row.epoch for row in rows] == [1, 2, 3]
    assert (resumed.resumed_from, whole.resumed_from) == (1, None)


@pytest.mark.parametrize("other", [{"num_neurons": 8}, {"optimizer": "sgd"}], ids=str)
def test_a_snapshot_of_another_architecture_is_not_used(other: Hyperparameters) -> None:
    kept = Kept()
    fit(other, kept, epochs=1)
    assert fit({}, kept) == fit({}, None)
    assert set(kept.snapshots) == {3}


def test_a_snapshot_of_more_epochs_than_wanted_is_not_used() -> None:
    kept = Kept()
    fit({}, kept)
    kept.snapshots[2] = kept.snapshots.pop(3)
    assert fit({}, kept, epochs=2) == fit({}, None, epochs=2)


class Stopped(Exception):
    """Raised by a report, as when a worker is stopped."""


def test_a_fit_that_is_stopped_goes_on_from_its_last_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "SNAPSHOT_SECONDS", 0.0)
    kept = Kept(keeps_last=False)
    ended: list[state.Epoch] = []

    def stop(_: float) -> None:
        if len(kept.snapshots) == 2:  # in the third epoch
            raise Stopped

    with pytest.raises(Stopped):
        training.train_network({**DEFAULTS, "epochs": 4}, SPLIT, SEED, stop, ended.append, kept)
    assert [row.epoch for row in ended] == [1, 2]
    trained: list[state.Epoch] = []
    resumed = training.train_network({**DEFAULTS, "epochs": 4}, SPLIT, SEED, lambda _: None, trained.append, kept)
    assert resumed.resumed_from == 2
    assert (resumed.accuracy, resumed.loss, resumed.hits) == fit({}, None, epochs=4)[0]
    assert trained[:2] == ended


def test_long_fits_are_saved_as_they_go_and_forgotten_at_their_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "SNAPSHOT_SECONDS", 0.0)
    saved: list[int] = []

    class Watched(Kept):
        def save(self, snapshot: state.Snapshot) -> None:
            super().save(snapshot)
            saved.append(len(snapshot.epochs))

    kept = Watched(keeps_last=False)
    fit({}, kept)
    assert (saved, kept.snapshots) == ([1, 2], {})
    monkeypatch.undo()
    saved.clear()
    fit({}, kept)
    assert saved == []


@pytest.mark.slow
def test_a_fit_is_resumed_in_another_process(tmp_path: Path) -> None:
    kept = Kept()
    fit({}, kept, epochs=2)
    [snapshot] = kept.snapshots.values()
    np.savez(tmp_path / "arrays.npz", *snapshot.arrays)
    code = (
        "import sys, numpy as np\n"
        "from tests.training.test_resuming import Kept, fit, state\n"
        "stored = np.load(sys.argv[1])\n"
        "epoch = state.Epoch(0, 0.0, 0.0, 0.0, 0.0, 0.0)\n"
        "kept = Kept()\n"
        "kept.save(state.Snapshot([epoch] * 2, [stored[f'arr_{n}'] for n in range(len(stored.files))]))\n"
        "print(fit({}, kept)[0])\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "arrays.npz")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(fit({}, None)[0])
