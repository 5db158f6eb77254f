"""Layers as parts of a graph: their weights, and what they make of a batch."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from app.tuning.search import layers as kinds
from app.tuning.search.models import Shape
from app.tuning.search.networks import Layers
from worker.compiled.draws import draw_kernel
from worker.compiled.tensors import ACTIVATIONS, Rates, Tensor, Weight, draw_for_dropout, tf

AVERAGE_MOMENTUM, EPSILON = 0.99, 1e-3  # of batch normalization, Keras's


class Pass(NamedTuple):
    """One forward pass; in training with the key and the step that dropout draws by."""

    rates: Rates
    key: Tensor | None = None
    step: Tensor | None = None

    @property
    def trains(self) -> bool:
        """Whether it is one of training."""
        return self.key is not None


class Positions:
    """Hands out positions in the vectors of rates, in the order of the layers that have any."""

    def __init__(self) -> None:
        self.dropouts = 0
        self.penalties: list[Any] = []  # kernels, by position

    def take_dropout(self) -> int:
        """The next dropout's position."""
        self.dropouts += 1
        return self.dropouts - 1


class Node(ABC):
    """A layer in a graph."""

    def __init__(self, slots: int = 0, kernels: tuple[Shape, ...] = (), bias: int = 0) -> None:
        self.weights = [Weight(kernel, slots) for kernel in kernels] + ([Weight((bias,), slots)] if bias else [])
        self.averages: list[Any] = []

    @abstractmethod
    def apply(self, x: Tensor, run: Pass) -> Tensor:
        """What it makes of a batch."""

    def list_values(self) -> list[Any]:
        """Its variables in Keras's order."""
        return [*(weight.value for weight in self.weights), *self.averages]

    def draw(self, random: np.random.Generator) -> Iterator[np.ndarray]:
        """Initial values of the weights, Keras's defaults: Glorot's uniform for kernels, else zeros."""
        for weight in self.weights:
            size = tuple(weight.value.shape)
            yield draw_kernel(random, size) if len(size) > 1 else np.zeros(size, np.float32)


class _Stateless(Node):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self._function = function

    def apply(self, x: Tensor, run: Pass) -> Tensor:
        return self._function(x)


class _Dense(Node):
    def __init__(self, layer: kinds.Dense, shape: Shape, slots: int) -> None:
        super().__init__(slots, ((shape[0], layer.units),), layer.units)
        self._activate = ACTIVATIONS[layer.activation]

    def apply(self, x: Tensor, run: Pass) -> Tensor:
        kernel, bias = (weight.value for weight in self.weights)
        return self._activate(tf.nn.bias_add(tf.matmul(x, kernel), bias))


class _Convolution(Node):
    def __init__(self, layer: kinds.Conv2d, shape: Shape, slots: int) -> None:
        super().__init__(slots, ((layer.kernel_size, layer.kernel_size, shape[-1], layer.filters),), layer.filters)
        self._layer = layer

    def apply(self, x: Tensor, run: Pass) -> Tensor:
        kernel, bias = (weight.value for weight in self.weights)
        x = tf.nn.conv2d(x, kernel, self._layer.strides, self._layer.padding.upper())
        return ACTIVATIONS[self._layer.activation](tf.nn.bias_add(x, bias))


class _SeparableConvolution(Node):
    def __init__(self, layer: kinds.SeparableConv2d, shape: Shape, slots: int) -> None:
        depthwise = (layer.kernel_size, layer.kernel_size, shape[-1], 1)
        super().__init__(slots, (depthwise, (1, 1, shape[-1], layer.filters)), layer.filters)
        self._layer = layer

    def apply(self, x: Tensor, run: Pass) -> Tensor:
        depthwise, pointwise, bias = (weight.value for weight in self.weights)
        strides, padding = (1, self._layer.strides, self._layer.strides, 1), self._layer.padding.upper()
        x = tf.nn.separable_conv2d(x, depthwise, pointwise, strides, padding)
        return ACTIVATIONS[self._layer.activation](tf.nn.bias_add(x, bias))


class _Dropout(Node):
    def __init__(self, position: int) -> None:
        super().__init__()
        self._position = position

    def apply(self, x: Tensor, run: Pass) -> Tensor:
        if not run.trains:
            return x
        size = [tf.shape(x)[0], *x.shape[1:]]
        draw = draw_for_dropout(size, run.key, self._position, run.step)
        rate, scale = (rates[self._position] for rates in (run.rates.dropout_rate, run.rates.dropout_scale))
        return tf.where(draw >= rate, x * scale, 0.0)


class _BatchNormalization(Node):
    def __init__(self, channels: int, slots: int) -> None:
        super().__init__()
        self.weights = [Weight((channels,), slots) for _ in range(2)]  # scale and offset
        self.averages = [tf.Variable(tf.zeros(channels)), tf.Variable(tf.ones(channels))]

    def draw(self, random: np.random.Generator) -> Iterator[np.ndarray]:
        for weight, value in zip(self.weights, (1.0, 0.0), strict=True):
            yield np.full(weight.value.shape, value, np.float32)

    def apply(self, x: Tensor, run: Pass) -> Tensor:
        gamma, beta = (weight.value for weight in self.weights)
        if not run.trains:
            return tf.nn.batch_normalization(x, *self.averages, beta, gamma, EPSILON)
        if len(x.shape) == 4:
            normalized, *moments = _normalize_images(x, gamma, beta)
        else:
            moments = tf.nn.moments(x, [0])
            normalized = tf.nn.batch_normalization(x, *moments, beta, gamma, EPSILON)
        for average, moment in zip(self.averages, moments, strict=True):
            average.assign_sub((average - moment) * (1.0 - AVERAGE_MOMENTUM))
        return normalized


def _normalize_images(x: Tensor, gamma: Tensor, beta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The normalized batch with its means and variances, by TensorFlow's fused kernel: it saves a fifth of a step."""
    normalized, mean, variance = tf.compat.v1.nn.fused_batch_norm(x, gamma, beta, epsilon=EPSILON, is_training=True)
    count = tf.cast(tf.reduce_prod(tf.shape(x)[:-1]), tf.float32)
    return normalized, mean, variance * ((count - 1.0) / count)  # the kernel's is that of a sample, by count - 1


class _Residual(Node):
    def __init__(self, within: list[Node], shortcut: list[Node]) -> None:
        super().__init__()
        self._within, self._shortcut = within, shortcut
        self.weights = [weight for node in (*within, *shortcut) for weight in node.weights]
        self.averages = [average for node in (*within, *shortcut) for average in node.averages]

    def draw(self, random: np.random.Generator) -> Iterator[np.ndarray]:
        for node in (*self._within, *self._shortcut):
            yield from node.draw(random)

    def list_values(self) -> list[Any]:
        return [value for node in (*self._within, *self._shortcut) for value in node.list_values()]

    def apply(self, x: Tensor, run: Pass) -> Tensor:
        return apply_nodes(self._within, x, run) + apply_nodes(self._shortcut, x, run)


def apply_nodes(nodes: list[Node], x: Tensor, run: Pass) -> Tensor:
    """What layers in a row make of a batch."""
    for node in nodes:
        x = node.apply(x, run)
    return x


def make_nodes(layers: Layers, shape: Shape, slots: int, positions: Positions) -> list[Node]:
    """The layers for samples of this shape; those that do nothing are left out."""
    made = [_make_node(layer, given, slots, positions) for layer, given in kinds.pair_with_shapes(layers, shape)]
    return [node for node in made if node]


def _make_node(layer: kinds.Layer, shape: Shape, slots: int, positions: Positions) -> Node | None:
    match layer:
        case kinds.Dense() | kinds.Conv2d():
            node = _Dense(layer, shape, slots) if isinstance(layer, kinds.Dense) else _Convolution(layer, shape, slots)
            if layer.l1 or layer.l2:
                positions.penalties.append(node.weights[0].value)
            return node
        case kinds.SeparableConv2d():
            return _SeparableConvolution(layer, shape, slots)
        case kinds.Dropout():
            return _Dropout(positions.take_dropout()) if layer.rate else None
        case kinds.BatchNormalization():
            return _BatchNormalization(shape[-1], slots)
        case kinds.Residual():
            shortcut = layer.shortcut(shape)
            within = make_nodes(layer.layers, shape, slots, positions)
            return _Residual(within, make_nodes((shortcut,) if shortcut else (), shape, slots, positions))
    return _Stateless(_find_function(layer))


def _find_function(layer: kinds.Layer) -> Callable[[Tensor], Tensor]:
    match layer:
        case kinds.MaxPooling2d():
            return lambda x: tf.nn.max_pool2d(x, layer.pool_size, layer.pool_size, layer.padding.upper())
        case kinds.AveragePooling2d():
            return lambda x: tf.nn.avg_pool2d(x, layer.pool_size, layer.pool_size, layer.padding.upper())
        case kinds.GlobalAveragePooling2d():
            return lambda x: tf.reduce_mean(x, (1, 2))
        case kinds.Flatten():
            return lambda x: tf.reshape(x, (-1, x.shape[1:].num_elements()))
        case kinds.ActivationLayer():
            return ACTIVATIONS[layer.activation]
    raise TypeError(f"{layer.layer} has no node")
