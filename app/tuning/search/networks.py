"""Networks as lists of layers: what bounds them, and the families that are such lists."""

from abc import abstractmethod
from functools import lru_cache
from math import prod
from typing import ClassVar, Literal, NamedTuple

from pydantic import Field

from app.tuning.search.layers import (
    ActivationLayer,
    BatchNormalization,
    Conv2d,
    Dense,
    Dropout,
    Flatten,
    GlobalAveragePooling2d,
    Layer,
    MaxPooling2d,
    Residual,
    describe_shape,
    output_of,
    pair_with_shapes,
)
from app.tuning.search.models import Cnn, Model, Shape, Training
from app.tuning.search.scoring import Task

MAX_LAYERS = 64  # a residual counts as the layers within it
MAX_WEIGHTS = 50_000_000
MAX_ACTIVATION_BYTES = 64 * 2**20  # of one sample
MAX_MULTIPLY_ADDS = 10**11  # of one sample

Layers = tuple[Layer, ...]
HiddenActivation = Literal["relu", "elu", "gelu", "tanh"]


class NetworkSize(NamedTuple):
    """What a network takes, with its output layer."""

    weights: int
    multiply_adds: int  # of one sample's forward pass
    activations: int  # values that one sample's forward pass holds, with the sample


class Network(Training):
    """A network that is a list of layers, to which the task adds the output layer."""

    tasks: ClassVar[tuple[Task, ...]] = ("classification", "regression")

    @abstractmethod
    def list_layers(self, shape: Shape) -> Layers:
        """The layers for samples of this shape, without the output layer."""

    def training_cost(self, shape: Shape, classes: int) -> int:
        return measure_network(self.list_layers(shape), shape, classes).multiply_adds * self.epochs

    def checkpoint_bytes(self, shape: Shape, classes: int) -> int:
        return 16 * measure_network(self.list_layers(shape), shape, classes).weights + 2**19


class Mlp(Network):
    """A multilayer perceptron: dense layers, each with dropout, then the output layer. Images are flattened."""

    name = "mlp"

    hidden_layers: int = Field(1, ge=0, le=8, description="dense layers before the output layer")
    units: int = Field(128, ge=1, le=4096, description="of each hidden layer")
    activation: HiddenActivation = Field("relu", description="activation of the hidden layers")
    dropout_rate: float = Field(0.2, ge=0, lt=1, description="share of each hidden layer's outputs dropped in training")

    def list_layers(self, shape: Shape) -> Layers:
        hidden = Dense(units=self.units, activation=self.activation), Dropout(rate=self.dropout_rate)
        return (*([Flatten()] if len(shape) > 1 else []), *hidden * self.hidden_layers)


class Resnet(Network):
    """A residual network (He et al., 2016): stages of blocks of two convolutions, global average pooling, softmax."""

    name = "resnet"
    takes_tables = False
    tasks = ("classification",)

    stages: int = Field(3, ge=1, le=4, description="of equal size; each further one halves the image")
    blocks: int = Field(1, ge=1, le=8, description="of two convolutions each, in each stage")
    filters: int = Field(16, ge=1, le=256, description="of the first stage; each further one doubles them")
    activation: HiddenActivation = Field("relu", description="activation of the hidden layers")
    dropout_rate: float = Field(0.0, ge=0, lt=1, description="share of the pooled channels dropped in training")

    def list_layers(self, shape: Shape) -> Layers:
        layers = [*self._convolve(self.filters, 1), ActivationLayer(activation=self.activation)]
        for stage in range(self.stages):
            for block in range(self.blocks):
                halves = stage > 0 and block == 0
                layers += self._make_block(self.filters * 2**stage, 2 if halves else 1)
        return (*layers, GlobalAveragePooling2d(), Dropout(rate=self.dropout_rate))

    def _make_block(self, filters: int, strides: int) -> list[Layer]:
        activate = ActivationLayer(activation=self.activation)
        within = (*self._convolve(filters, strides), activate, *self._convolve(filters, 1))
        return [Residual(layers=within), activate]

    @staticmethod
    def _convolve(filters: int, strides: int) -> Layers:
        return Conv2d(filters=filters, kernel_size=3, strides=strides, padding="same"), BatchNormalization()


def list_layers(model: Model, shape: Shape) -> Layers:
    """The layers of a network for samples of this shape, without the output layer."""
    if isinstance(model, Cnn):
        return _list_cnn_layers(model)
    assert isinstance(model, Network)
    return model.list_layers(shape)


def _list_cnn_layers(model: Cnn) -> Layers:
    layers: list[Layer] = []
    for block in range(model.conv_blocks):
        filters = model.filters * 2**block
        layers.append(Conv2d(filters=filters, kernel_size=model.kernel_size, activation=model.activation))
        layers.append(MaxPooling2d())
    dense = Dense(units=model.num_neurons, activation=model.activation, l1=model.l1, l2=model.l2)
    return (*layers, Flatten(), dense, Dropout(rate=model.dropout_rate))


@lru_cache(maxsize=4096)
def measure_network(layers: Layers, shape: Shape, classes: int) -> NetworkSize:
    """What the layers and an output layer take: one unit for each class, or for regression, with no classes, one.

    Raises:
        LayerError: a layer cannot take what it is given.
        ValueError: it is more than the bounds above.
    """
    count = sum(layer.count() for layer in layers)
    _check(count, MAX_LAYERS, "layers")
    flat = output_of(layers, shape)
    if len(flat) != 1:
        needs = "end with flatten or global_average_pooling2d"
        raise ValueError(f"the output layer takes a flat input, it gets {describe_shape(flat)}: {needs}")
    pairs = [*pair_with_shapes(layers, shape), (Dense(units=classes or 1), flat)]
    size = NetworkSize(
        weights=sum(layer.weights(given) for layer, given in pairs),
        multiply_adds=sum(layer.multiply_adds(given) for layer, given in pairs),
        activations=prod(shape) + sum(layer.activations(given) for layer, given in pairs),
    )
    _check(size.weights, MAX_WEIGHTS, "weights")
    _check(4 * size.activations, MAX_ACTIVATION_BYTES, "bytes of activations a sample")
    _check(size.multiply_adds, MAX_MULTIPLY_ADDS, "multiply-adds a sample")
    return size


def _check(found: int, most: int, what: str) -> None:
    if found > most:
        raise ValueError(f"the network has {found:,} {what}: at most {most:,}")
