"""Small networks on scikit-learn's digits: trained by our graph, and by Keras in float64 from the same weights."""

import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

training = pytest.importorskip("worker.cnn.trainer", reason="TensorFlow is not installed")
keras = pytest.importorskip("keras", reason="Keras is not installed")

import tensorflow as tf  # noqa: E402

from worker.cnn import architecture  # noqa: E402
from worker.cnn.program import CnnProgram  # noqa: E402
from worker.compiled import batches, draws, optimizers, tensors  # noqa: E402
from worker.compiled import trainer as loop  # noqa: E402
from worker.training import Split  # noqa: E402

Hyperparameters = dict[str, int | float | str]
Weights = list[np.ndarray]
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


def named(changes: Hyperparameters) -> str:
    """The id of a test case: the hyperparameters that it changes."""
    return ",".join(f"{name}={value}" for name, value in changes.items())


def digits(train: int = 1000, every_epoch: bool = True) -> Any:
    """The first `train` images to train on, the last 300 to score."""
    data = load_digits()
    images, labels = data.images.astype(np.uint8), data.target.astype(np.uint8)
    rows = np.arange(len(images), dtype=np.int32)
    return Split(images, labels, rows[:train], images, labels, rows[-300:], 16.0, 10, every_epoch)


SPLIT = digits()


def train(changes: Mapping[str, int | float | str], split: Any = SPLIT, seed: int = 1) -> tuple[Any, list[Any]]:
    """Scores and epochs of one fit."""
    epochs: list[Any] = []
    scores = training.train_network({**DEFAULTS, **changes}, split, seed, lambda within: None, epochs.append)
    return scores, epochs


def graph(changes: Mapping[str, int | float | str], split: Any = SPLIT) -> Any:
    """The graph that trains such a network."""
    shape = training._make_architecture({**DEFAULTS, **changes}, split)
    return loop._get_warm(shape, lambda: CnnProgram(shape)).program


def first_weights(changes: Hyperparameters, seed: int = 1) -> Weights:
    """The initial weights of a fit with this seed."""
    shape = training._make_architecture({**DEFAULTS, **changes}, SPLIT)
    laid_out, convolutions = list(architecture.draw_weights(shape, seed)), 2 * shape.conv_blocks
    dense = np.concatenate(laid_out[convolutions:-3]).T
    return [*laid_out[:convolutions], dense, *laid_out[-3:]]


def gradients(changes: Hyperparameters, weights: Weights, count: int) -> Weights:
    """Our gradients at these weights, of the first images: what one step of size 1 takes off the weights."""
    h: Hyperparameters = {**DEFAULTS, **changes, "optimizer": "sgd", "learning_rate": 1.0}
    ours, seen = graph(h), SPLIT.images[:count].reshape(count, -1)
    ours.reset(0)
    for variable, value in zip(ours.list_weights(), _laid_out(ours.shape, weights), strict=True):
        variable.value.assign(value)
    images = tensors.to_tensor(np.take(seen, ours.windows, axis=1), "uint8")
    batch, key = tensors.to_tensor(count, "int32"), tensors.to_tensor([1], "uint64")
    labels = tensors.to_tensor(SPLIT.labels[:count], "int32")
    ours.train(images, labels, batch, training._make_rates(h, SPLIT.scale), batches.Totals.zero(), key)
    return [before - after for before, after in zip(weights, ours.weights(), strict=True)]


def update(changes: Hyperparameters, start: np.ndarray, steps_taken: np.ndarray) -> np.ndarray:
    """The values that our optimizer reaches from `start`, taking a step for each gradient."""
    h: Hyperparameters = {**DEFAULTS, **changes, "num_neurons": len(start)}
    ours, rates = graph(h), training._make_rates(h, SPLIT.scale)
    ours.reset(0)
    weight = ours.head[0]  # the dense layer's bias
    weight.value.assign(start)
    for number, gradient in enumerate(steps_taken, 1):
        change = optimizers.make_update(ours.shape, tensors.to_tensor(number, "float32"), rates, ours.momentum_product)
        change(weight, tensors.to_tensor(gradient, "float32"))
    moved: np.ndarray = weight.value.numpy()
    return moved


def classified_rightly(logits: np.ndarray, labels: np.ndarray) -> int:
    """The number of rows that our graph counts as correct."""
    return int(batches.mark_correct(tf.constant(logits), tf.constant(labels)).numpy().sum())


def _laid_out(shape: Any, weights: Weights) -> Weights:
    *convolutions, dense, bias, last, last_bias = weights
    blocks = np.split(dense.T, np.cumsum(shape.dense_blocks())[:-1])
    return [*convolutions, *blocks, bias, last, last_bias]


@contextmanager
def in_float64() -> Iterator[None]:
    """Keras computes in float64 here, so its rounding plays no part in a comparison."""
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    try:
        yield
    finally:
        keras.config.set_floatx("float32")
        keras.config.set_dtype_policy("float32")


def keras_optimizer(h: Hyperparameters) -> Any:
    """Keras's optimizer of these hyperparameters."""
    momentum = {"momentum": h["momentum"]} if h["optimizer"] in ("sgd", "rmsprop") else {}
    settings = {"learning_rate": h["learning_rate"], "weight_decay": h["weight_decay"], **momentum}
    return keras.optimizers.get({"class_name": h["optimizer"], "config": settings})


def keras_model(changes: Hyperparameters, weights: Weights, seed: int = 1) -> Any:
    """Keras's model of the same network, with these weights."""
    h = {**DEFAULTS, **changes}
    layers = [keras.layers.Rescaling(1 / SPLIT.scale)]
    for block in range(int(h["conv_blocks"])):
        filters = int(h["filters"]) * 2**block
        layers += [keras.layers.Conv2D(filters, h["kernel_size"], activation=h["activation"])]
        layers += [keras.layers.MaxPooling2D(2)]
    penalty = keras.regularizers.L1L2(h["l1"], h["l2"]) if h["l1"] or h["l2"] else None
    dense = keras.layers.Dense(h["num_neurons"], activation=h["activation"], kernel_regularizer=penalty)
    layers += [keras.layers.Flatten(), dense, keras.layers.Dropout(h["dropout_rate"], seed=seed)]
    layers += [keras.layers.Dense(SPLIT.classes, activation="softmax")]
    model = keras.Sequential([keras.Input((*SPLIT.images.shape[1:], 1)), *layers])
    model.compile(keras_optimizer(h), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.set_weights(weights)
    return model


def keras_gradients(changes: Hyperparameters, weights: Weights, count: int) -> Weights:
    """Keras's gradients at these weights, of the first images, with our graph's dropout mask."""
    rate = float({**DEFAULTS, **changes}["dropout_rate"])
    model = keras_model(changes, weights)
    kept = _draw(changes, count) >= np.float32(rate)
    with tf.GradientTape() as tape:
        x = tf.constant(SPLIT.images[:count, ..., None], model.compute_dtype)
        for layer in model.layers:
            x = layer(x) if not isinstance(layer, keras.layers.Dropout) else x * (kept / (1 - rate))
        losses = keras.losses.sparse_categorical_crossentropy(SPLIT.labels[:count], x)
        total = tf.reduce_mean(losses) + sum(model.losses)
    return [gradient.numpy() for gradient in tape.gradient(total, model.trainable_variables)]


def _draw(changes: Hyperparameters, count: int) -> np.ndarray:
    draw: np.ndarray = graph(changes)._draw(count, tf.constant([1], tf.uint64), tf.constant(1, tf.int64)).numpy()
    return draw


def fit_with_keras(
    changes: Hyperparameters, seed: int = 1, split: Any = SPLIT, class_weight: dict[int, float] | None = None
) -> tuple[Any, list[tuple[float, float]]]:
    """Keras's own training on the same batches from the same weights: the model, and loss and accuracy per epoch."""
    h = {**DEFAULTS, **changes}
    model, history = keras_model(h, first_weights(h, seed), seed), []
    images, size = SPLIT.images[..., None].astype(np.float32), int(h["batch_size"])
    for order in itertools.islice(draws.draw_orders(split.rows, seed), int(h["epochs"])):
        more: dict[str, Any] = {"batch_size": size, "class_weight": class_weight}
        fit = model.fit(images[order], SPLIT.labels[order], shuffle=False, verbose=0, **more)
        history.append((fit.history["loss"][0], fit.history["accuracy"][0]))
    return model, history
