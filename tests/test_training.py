"""Training agrees with Keras, repeats itself to the bit, reports while it works and keeps no more than it needs."""

import itertools
from collections.abc import Mapping
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
    "epochs": 3,
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
    {"optimizer": "adam"},
    {"optimizer": "adam", "weight_decay": 0.05},
    {"optimizer": "adamw"},
    {"optimizer": "adamw", "weight_decay": 0.05},
    {"optimizer": "nadam"},
    {"optimizer": "nadam", "weight_decay": 0.05},
    {"optimizer": "rmsprop"},
    {"optimizer": "rmsprop", "momentum": 0.8, "weight_decay": 0.01},
    {"optimizer": "adagrad", "learning_rate": 0.02},
    {"optimizer": "adagrad", "learning_rate": 0.02, "weight_decay": 0.05},
    {"optimizer": "sgd", "learning_rate": 0.05},
    {"optimizer": "sgd", "learning_rate": 0.05, "momentum": 0.8, "weight_decay": 0.01},
    {"l1": 0.001},
    {"l1": 0.0005, "l2": 0.01, "optimizer": "sgd", "learning_rate": 0.05},
    {"activation": "elu"},
    {"activation": "tanh"},
    {"activation": "gelu"},
    {"kernel_size": 1, "conv_blocks": 2},
    {"kernel_size": 2, "conv_blocks": 2, "batch_size": 7},
    {"num_neurons": 1, "filters": 1, "batch_size": 1000},
]


@pytest.mark.parametrize("changes", ALIKE, ids=lambda changes: ",".join(f"{k}={v}" for k, v in changes.items()))
def test_training_without_dropout_agrees_with_keras(changes: Hyperparameters) -> None:
    scores, epochs = train(changes)
    model, history = fit_with_keras({**DEFAULTS, **changes}, SPLIT, 1)
    assert [epoch.loss for epoch in epochs] == pytest.approx([loss for loss, _ in history], rel=1e-3)
    assert [epoch.accuracy for epoch in epochs] == pytest.approx([accuracy for _, accuracy in history], abs=0.003)
    for ours, theirs in zip(trained_weights(changes), model.get_weights(), strict=True):
        # Where l1 holds a weight at zero its sign is noise, and a step goes either way.
        np.testing.assert_allclose(ours, theirs, rtol=1e-2, atol=2e-3)
    images = SPLIT.score_images[SPLIT.score_rows][..., None].astype(np.float32)
    loss, accuracy = model.evaluate(images, SPLIT.score_labels[SPLIT.score_rows], verbose=0)
    assert scores.loss == pytest.approx(loss, rel=1e-3)
    assert scores.accuracy == pytest.approx(accuracy, abs=0.007)
