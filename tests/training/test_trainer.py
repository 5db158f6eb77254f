"""Training is reproducible to the bit, reports regularly and keeps only what it needs."""

import gc
import itertools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest

from app.tuning.jobs.claims import Claim
from tests.support.fitting import DEFAULTS, SPLIT, Hyperparameters, digits, train, training
from tests.support.ledger import grid
from worker import datasets, fit
from worker.cnn.architecture import Architecture
from worker.compiled import trainer as loop
from worker.training import Split

ROOT = Path(__file__).parents[2]


def test_equal_arguments_give_equal_bits_whatever_was_trained_before() -> None:
    changes: Hyperparameters = {"dropout_rate": 0.4, "optimizer": "nadam", "epochs": 2}
    first = train(changes, seed=5)
    train({**changes, "learning_rate": 0.1}, seed=6)
    again = train(changes, seed=5)
    loop._programs.clear()
    cold = train(changes, seed=5)
    assert bits(first) == bits(again) == bits(cold)
    assert bits(first) != bits(train(changes, seed=7))


def test_balanced_weights_of_balanced_classes_change_no_bit() -> None:
    labels = SPLIT.labels[SPLIT.rows]
    even = np.sort(np.concatenate([SPLIT.rows[labels == one][:40] for one in range(SPLIT.classes)]))
    changes: Hyperparameters = {"dropout_rate": 0.2, "epochs": 1}
    weighed = train({**changes, "class_weight": "balanced"}, SPLIT._replace(rows=even))
    assert bits(weighed) == bits(train(changes, SPLIT._replace(rows=even)))


def bits(result: tuple[Any, list[Any]]) -> list[tuple[float, ...]]:
    """A fit's numbers, without its durations."""
    scores, epochs = result
    return [(*scores[:2], *scores.hits), *(epoch[:5] for epoch in epochs)]


def test_a_report_that_raises_stops_the_fit_and_leaves_the_next_one_untouched() -> None:
    class Cancelled(Exception):
        pass

    reports = itertools.count()

    def report(within: float) -> None:
        if next(reports) == 3:
            raise Cancelled

    expected = train({})
    with pytest.raises(Cancelled):
        training.train_network(DEFAULTS, SPLIT, 9, report, lambda epoch: None)
    assert bits(train({})) == bits(expected)


def test_the_size_of_calls_does_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = train({"dropout_rate": 0.5})
    monkeypatch.setattr(loop, "_REPORT_SECONDS", 0.0)
    assert bits(train({"dropout_rate": 0.5})) == bits(expected)


def test_fits_of_one_architecture_share_a_program() -> None:
    loop._programs.clear()
    for changes in (
        {"dropout_rate": 0.1},
        {"dropout_rate": 0.2, "learning_rate": 0.01},
        {"dropout_rate": 0.3, "batch_size": 50},
    ):
        train({**changes, "epochs": 1})
    assert len(loop._programs) == 1


def list_widths() -> list[int]:
    """The neurons of each program that is kept, the last used one last."""
    return [shape.num_neurons for shape in loop._programs if isinstance(shape, Architecture)]


def test_only_the_last_used_programs_are_kept() -> None:
    few = digits(train=16)
    for neurons in (*range(1, 9), 1, 9, 10):
        train({"num_neurons": neurons, "epochs": 1}, few)
    assert list_widths() == [4, 5, 6, 7, 8, 1, 9, 10]


def test_kept_programs_stay_within_a_limit_of_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    few = digits(train=16)
    large, other = ({"num_neurons": neurons, "filters": 128, "epochs": 1} for neurons in (1000, 1001))
    train(large, few)
    train({"epochs": 1}, few)
    monkeypatch.setattr(loop, "_BYTES_KEPT", 60_000_000)  # a large one takes 14 million, and its scoring 40
    train(other, few)
    assert list_widths() == [16, 1001]


def test_freed_programs_leave_no_graph_behind() -> None:
    for activation in ("relu", "gelu"):  # their first convolutions differ
        train({"activation": activation, "conv_blocks": 2, "kernel_size": 2, "dropout_rate": 0.1, "l1": 0.1})
    loop.forget_programs()
    graphs = [one for one in gc.get_objects() if type(one).__name__.endswith("FuncGraph")]
    assert not [graph.name for graph in graphs if "_train" in graph.name or "while_body" in graph.name]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux holds a process to RLIMIT_DATA")
@pytest.mark.timeout(600)
def test_programs_that_do_not_fit_into_memory_together_are_trained_one_after_the_other() -> None:
    """Each network takes 150 to 220 MB; the process may take 1.25 GiB, of which it uses 0.4 at the start."""
    command = [sys.executable, "-m", "tests.support.hungry", *map(str, range(256, 369, 16))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


class MemoryRunsOut:
    """A heartbeat that runs out of memory in the middle of a fit."""

    reports = 0

    def report(self, within: float = 0.0) -> None:
        self.reports += 1
        if self.reports == 5:
            raise MemoryError

    def epoch(self, epoch: object) -> None:
        pass

    def read(self, query: object) -> None:
        pass


def test_running_out_of_memory_frees_everything_before_the_next_attempt() -> None:
    train({"epochs": 1}, digits(train=16))
    claim = Claim(uuid4(), 1, 1, 0, 0, grid(2, dataset={"name": "digits"}), {"epochs": 3})
    with pytest.raises(MemoryError):
        fit.train_fit(claim, MemoryRunsOut())  # type: ignore[arg-type]
    assert not loop._programs
    assert not datasets._kept
    assert not [one for one in gc.get_objects() if type(one) is training.CnnProgram]


def test_every_call_is_announced_with_a_margin() -> None:
    loop._programs.clear()
    windows: list[float] = []
    training.train_network({**DEFAULTS, "epochs": 1}, SPLIT, 1, windows.append, lambda epoch: None)
    assert windows[:2] == [60.0, 60.0]
    assert min(windows) >= 15.0


def test_without_scores_of_every_epoch_only_the_last_is_scored() -> None:
    scores, epochs = train({}, digits(every_epoch=False))
    assert [(epoch.val_loss, epoch.val_accuracy) for epoch in epochs] == [(None, None)] * 4
    assert bits((scores, []))[0] == bits(train({}))[0]


@pytest.mark.parametrize("rows", [np.arange(1500, 1797), np.array([3, 1700, 3, 9, 1000]), np.arange(7, 8)])
def test_hits_say_which_scored_rows_were_correct_in_their_order(rows: np.ndarray) -> None:
    changes: Hyperparameters = {"epochs": 2, "filters": 200, "kernel_size": 1}  # scored 163 at a time
    scores, _ = train(changes, SPLIT._replace(score_rows=rows.astype(np.int32)))
    hits = np.unpackbits(np.frombuffer(scores.hits, np.uint8), count=len(rows))
    assert len(scores.hits) == -(-len(rows) // 8)
    assert hits.sum() / len(rows) == scores.accuracy
    alone = [train(changes, SPLIT._replace(score_rows=np.array([row], np.int32)))[0].accuracy for row in rows[:9]]
    assert hits[:9].tolist() == alone


def test_a_loss_that_is_not_finite_is_reported_and_not_an_error() -> None:
    scores, epochs = train({"optimizer": "sgd", "learning_rate": 10.0, "weight_decay": 1.0, "epochs": 2})
    assert np.isnan([scores.loss, epochs[-1].loss, epochs[-1].val_loss]).all()
    of_class_0 = (SPLIT.labels[SPLIT.rows] == 0).mean(), (SPLIT.score_labels[SPLIT.score_rows] == 0).mean()
    assert (epochs[-1].accuracy, scores.accuracy) == pytest.approx(of_class_0), "NaN counts as class 0, as in Keras"


def test_an_image_too_small_for_its_convolutions_is_rejected() -> None:
    with pytest.raises(ValueError, match="conv block 2"):
        train({"conv_blocks": 2, "kernel_size": 5})


@pytest.mark.skipif(
    not Path(os.environ.get("TUNEWELL_DATA_DIR", ""), "mnist.npz").is_file(),
    reason="TUNEWELL_DATA_DIR has no mnist.npz",
)
def test_mnist_is_learnt_in_one_epoch() -> None:
    with np.load(Path(os.environ["TUNEWELL_DATA_DIR"], "mnist.npz")) as data:
        images, labels = data["x_train"], data["y_train"]
    rows = np.arange(4000, dtype=np.int32)
    split = Split(images, labels, rows[:3000], images, labels, rows[3000:], 255.0, 10, True)
    assert train({"filters": 32, "num_neurons": 128, "epochs": 1}, split)[0].accuracy > 0.88
