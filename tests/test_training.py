"""Training agrees with Keras, repeats itself to the bit, reports while it works and keeps no more than it needs."""

import itertools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

training = pytest.importorskip("worker.training", reason="TensorFlow is not installed")
keras = pytest.importorskip("keras", reason="Keras is not installed")

from worker import shapes  # noqa: E402

Hyperparameters = dict[str, int | float | str]
DEFAULTS: Hyperparameters = {
    "learning_rate": 0.001,
    "dropout_rate": 0.0,
    "num_neurons": 16,
    "conv_blocks": 1,
    "filters": 8,
    "kernel_size": 3,
    "activation": "relu",
    "optimizer": "adam",
    "momentum": 0.0,
    "weight_decay": 0.0,
    "l1": 0.0,
    "l2": 0.0,
    "batch_size": 16,
    "epochs": 4,
}


def digits(train: int = 1000, every_epoch: bool = True) -> Any:
    data = load_digits()
    images, labels = data.images.astype(np.uint8), data.target.astype(np.uint8)
    rows = np.arange(len(images), dtype=np.int32)
    return training.Split(images, labels, rows[:train], images, labels, rows[-300:], 16.0, 10, every_epoch)


SPLIT = digits()


def train(changes: Mapping[str, int | float | str], split: Any = SPLIT, seed: int = 1) -> tuple[Any, list[Any]]:
    epochs: list[Any] = []
    scores = training.train({**DEFAULTS, **changes}, split, seed, lambda within: None, epochs.append)
    return scores, epochs


def trained_weights(changes: Mapping[str, int | float | str], split: Any = SPLIT) -> list[np.ndarray]:
    shape = training._shape({**DEFAULTS, **changes}, split)
    weights: list[np.ndarray] = training._programs[shape].program.weights()
    return weights


def keras_model(h: Hyperparameters, split: Any, seed: int) -> Any:
    layers = [keras.layers.Rescaling(1 / split.scale)]
    for block in range(int(h["conv_blocks"])):
        filters = int(h["filters"]) * 2**block
        layers += [keras.layers.Conv2D(filters, h["kernel_size"], activation=h["activation"])]
        layers += [keras.layers.MaxPooling2D(2)]
    penalty = keras.regularizers.L1L2(h["l1"], h["l2"]) if h["l1"] or h["l2"] else None
    dense = keras.layers.Dense(h["num_neurons"], activation=h["activation"], kernel_regularizer=penalty)
    layers += [keras.layers.Flatten(), dense, keras.layers.Dropout(h["dropout_rate"], seed=seed)]
    layers += [keras.layers.Dense(split.classes, activation="softmax")]
    model = keras.Sequential([keras.Input((*split.images.shape[1:], 1)), *layers])
    momentum = {"momentum": h["momentum"]} if h["optimizer"] in ("sgd", "rmsprop") else {}
    optimizer = keras.optimizers.get(
        {
            "class_name": h["optimizer"],
            "config": {"learning_rate": h["learning_rate"], "weight_decay": h["weight_decay"], **momentum},
        }
    )
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    shape = training._shape(h, split)
    model.set_weights(list(shapes.initial_weights(shape, seed)))
    return model


def fit_with_keras(h: Hyperparameters, split: Any, seed: int) -> tuple[Any, list[tuple[float, float]]]:
    """Keras's own training on the same batches from the same weights: the model, and loss and accuracy an epoch."""
    model, history = keras_model(h, split, seed), []
    images, size = split.images[..., None].astype(np.float32), int(h["batch_size"])
    for order in itertools.islice(training.orders(split.rows, seed), int(h["epochs"])):
        fit = model.fit(images[order], split.labels[order], batch_size=size, shuffle=False, verbose=0)
        history.append((fit.history["loss"][0], fit.history["accuracy"][0]))
    return model, history


ALIKE: list[Hyperparameters] = [
    {"optimizer": "adam", "weight_decay": 0.05, "kernel_size": 2, "conv_blocks": 2, "batch_size": 27},
    {"optimizer": "adamw", "activation": "tanh"},
    {"optimizer": "adamw", "weight_decay": 0.05, "activation": "gelu"},
    {"optimizer": "nadam", "activation": "elu"},
    {"optimizer": "nadam", "weight_decay": 0.05},
    {"optimizer": "rmsprop", "kernel_size": 1},
    {"optimizer": "rmsprop", "momentum": 0.8, "weight_decay": 0.01},
    {"optimizer": "adagrad", "learning_rate": 0.02, "weight_decay": 0.05},
    {"optimizer": "sgd", "learning_rate": 0.05},
    {"optimizer": "sgd", "learning_rate": 0.05, "momentum": 0.8, "weight_decay": 0.01},
    {"optimizer": "adam", "l1": 0.0005, "l2": 0.01},
    {"optimizer": "adam", "num_neurons": 600, "filters": 160, "epochs": 1},
]


@pytest.mark.parametrize("changes", ALIKE, ids=lambda changes: ",".join(f"{k}={v}" for k, v in changes.items()))
def test_training_without_dropout_agrees_with_keras(changes: Hyperparameters) -> None:
    scores, epochs = train(changes)
    model, history = fit_with_keras({**DEFAULTS, **changes}, SPLIT, 1)
    assert [epoch.loss for epoch in epochs] == pytest.approx([loss for loss, _ in history], rel=1e-3)
    assert [epoch.accuracy for epoch in epochs] == pytest.approx([accuracy for _, accuracy in history], abs=0.007)
    for ours, theirs in zip(trained_weights(changes), model.get_weights(), strict=True):
        # Rounding differs between processors, and where the gradient is all but nothing (a filter that hardly any
        # image wakes, a weight that l1 holds at zero) Adam makes whole steps of it: a few weights go their own way.
        distances = np.abs(ours - theirs)
        assert np.quantile(distances, 0.8, method="lower") < 3e-3
        assert distances.max() < 0.1
    images = SPLIT.score_images[SPLIT.score_rows][..., None].astype(np.float32)
    loss, accuracy = model.evaluate(images, SPLIT.score_labels[SPLIT.score_rows], verbose=0)
    assert scores.loss == pytest.approx(loss, rel=1e-3)
    assert scores.accuracy == pytest.approx(accuracy, abs=0.007)


def test_equal_arguments_give_equal_bits_whatever_was_trained_before() -> None:
    changes: Hyperparameters = {"dropout_rate": 0.4, "optimizer": "nadam", "epochs": 2}
    first = train(changes, seed=5)
    train({**changes, "learning_rate": 0.1}, seed=6)
    again = train(changes, seed=5)
    training._programs.clear()
    cold = train(changes, seed=5)
    assert bits(first) == bits(again) == bits(cold)
    assert bits(first) != bits(train(changes, seed=7))


def bits(result: tuple[Any, list[Any]]) -> list[tuple[float, ...]]:
    """A fit's numbers but for its durations."""
    scores, epochs = result
    return [scores[:2], *(epoch[:5] for epoch in epochs)]


def test_a_report_that_raises_stops_the_fit_and_leaves_the_next_one_untouched() -> None:
    class Cancelled(Exception):
        pass

    reports = itertools.count()

    def report(within: float) -> None:
        if next(reports) == 3:
            raise Cancelled

    expected = train({})
    with pytest.raises(Cancelled):
        training.train(DEFAULTS, SPLIT, 9, report, lambda epoch: None)
    assert bits(train({})) == bits(expected)


def test_how_the_epoch_is_cut_into_calls_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = train({"dropout_rate": 0.5})
    monkeypatch.setattr(training, "_REPORT_SECONDS", 0.0)
    assert bits(train({"dropout_rate": 0.5})) == bits(expected)


def test_values_that_do_not_shape_the_graph_share_one() -> None:
    training._programs.clear()
    for changes in (
        {"dropout_rate": 0.1},
        {"dropout_rate": 0.2, "learning_rate": 0.01},
        {"dropout_rate": 0.3, "batch_size": 50},
    ):
        train({**changes, "epochs": 1})
    assert len(training._programs) == 1


def test_only_the_last_used_architectures_are_kept() -> None:
    for neurons in range(1, 4):
        train({"num_neurons": neurons, "epochs": 1}, digits(train=16))
    assert len(training._programs) <= training._PROGRAMS_KEPT
    kept = list(training._programs)
    assert [shape.num_neurons for shape in kept[-3:]] == [1, 2, 3]


def test_every_call_is_announced_with_time_to_spare() -> None:
    training._programs.clear()
    windows: list[float] = []
    training.train({**DEFAULTS, "epochs": 1}, SPLIT, 1, windows.append, lambda epoch: None)
    assert windows[:2] == [60.0, 60.0]
    assert min(windows) >= 15.0


def test_the_scored_rows_are_touched_once_unless_every_epoch_is_scored() -> None:
    scores, epochs = train({}, digits(every_epoch=False))
    assert [(epoch.val_loss, epoch.val_accuracy) for epoch in epochs] == [(None, None)] * 4
    assert bits((scores, []))[0] == bits(train({}))[0]


def test_a_loss_that_is_not_finite_is_reported_and_not_an_error() -> None:
    scores, _ = train({"optimizer": "sgd", "learning_rate": 10.0, "weight_decay": 1.0, "epochs": 5})
    assert not np.isfinite(scores.loss) or scores.accuracy < 0.5
    assert 0.0 <= scores.accuracy <= 1.0


def test_dropout_learns_as_keras_does() -> None:
    changes: Hyperparameters = {"dropout_rate": 0.5, "num_neurons": 64, "epochs": 8, "batch_size": 32}
    ours = [train(changes, seed=seed)[1][-1].loss for seed in range(3)]
    theirs = [fit_with_keras({**DEFAULTS, **changes}, SPLIT, seed)[1][-1][0] for seed in range(3)]
    spread = np.hypot(np.std(ours), np.std(theirs))
    assert np.mean(ours) == pytest.approx(np.mean(theirs), abs=3 * spread)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.93])
def test_dropout_keeps_the_share_it_should_and_the_mean(rate: float) -> None:
    warm = training._warm(training._shape({**DEFAULTS, "num_neurons": 64, "dropout_rate": rate}, SPLIT))
    tf = pytest.importorskip("tensorflow")
    draws = [
        warm.program._draw(512, tf.constant([3], tf.uint64), tf.constant(step, tf.int64)).numpy() for step in (1, 2)
    ]
    for draw in draws:
        assert (draw < rate).mean() == pytest.approx(rate, abs=5 * np.sqrt(rate * (1 - rate) / draw.size))
    assert abs(np.corrcoef(draws[0].ravel(), draws[1].ravel())[0, 1]) < 0.03


def test_an_image_too_small_for_its_convolutions_is_refused() -> None:
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
    split = training.Split(images, labels, rows[:3000], images, labels, rows[3000:], 255.0, 10, True)
    assert train({"filters": 32, "num_neurons": 128, "epochs": 1}, split)[0].accuracy > 0.88
