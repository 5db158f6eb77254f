"""A trained network as a Keras model, which needs nothing of ours."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from app.tuning.search import layers as kinds
from app.tuning.search.models import Model, Shape
from app.tuning.search.networks import Layers, list_layers
from worker.compiled.tensors import tf


class Front(NamedTuple):
    """What is in front of the first layer: the model's input, and scaled samples (n, *shape) that are made of it."""

    input: Any
    scaled: Any


def export_network(
    model: Model, shape: Shape, classes: int, weights: Sequence[np.ndarray], front: Front | None = None
) -> Any:
    """A `keras.Model` from scaled samples (n, *shape), or what the front takes.

    It gives probabilities (n, classes), or numbers (n, 1) if there are 0 classes.

    `weights` are those of `Program.weights`, of a network of this model; so are those of the example's own program.

    Raises:
        ValueError: they are of another network.
    """
    exported, made = make_keras_model(list_layers(model, shape), shape, classes, front)
    left = list(weights)
    for layer in made:
        count = len(layer.weights)
        layer.set_weights(left[:count])
        del left[:count]
    if left:
        raise ValueError(f"{len(left)} arrays too many for the network")
    return exported


def make_keras_model(layers: Layers, shape: Shape, classes: int, front: Front | None = None) -> tuple[Any, list[Any]]:
    """The model, with Keras's initial weights, and its layers in the order of the posted ones."""
    made: list[Any] = []
    samples, x = front or [tf.keras.Input(shape)] * 2
    x = _connect(layers, x, shape, made)
    made.append(tf.keras.layers.Dense(classes or 1, activation="softmax" if classes else None))
    return tf.keras.Model(samples, made[-1](x)), made


def _connect(layers: Layers, x: Any, shape: Shape, made: list[Any]) -> Any:
    for layer, given in kinds.pair_with_shapes(layers, shape):
        if isinstance(layer, kinds.Residual):
            shortcut = layer.shortcut(given)
            within = _connect(layer.layers, x, given, made)
            x = tf.keras.layers.add([within, _connect((shortcut,) if shortcut else (), x, given, made)])
        else:
            made.append(_make_keras_layer(layer))
            x = made[-1](x)
    return x


def _make_keras_layer(layer: kinds.Layer) -> Any:
    keras, values = tf.keras.layers, layer.model_dump(exclude={"layer", "l1", "l2"})
    match layer:
        case kinds.Dense():
            return keras.Dense(**values, kernel_regularizer=_make_penalty(layer))
        case kinds.Conv2d():
            return keras.Conv2D(**values, kernel_regularizer=_make_penalty(layer))
        case kinds.SeparableConv2d():
            return keras.SeparableConv2D(**values)
        case kinds.MaxPooling2d():
            return keras.MaxPooling2D(**values)
        case kinds.AveragePooling2d():
            return keras.AveragePooling2D(**values)
        case kinds.GlobalAveragePooling2d():
            return keras.GlobalAveragePooling2D()
        case kinds.Flatten():
            return keras.Flatten()
        case kinds.Dropout():
            return keras.Dropout(**values)
        case kinds.BatchNormalization():
            return keras.BatchNormalization()
        case kinds.ActivationLayer():
            return keras.Activation(layer.activation)
    raise TypeError(f"{layer.layer} has no layer of Keras")


def _make_penalty(layer: kinds.Dense | kinds.Conv2d) -> Any:
    return tf.keras.regularizers.L1L2(layer.l1, layer.l2) if layer.l1 or layer.l2 else None
