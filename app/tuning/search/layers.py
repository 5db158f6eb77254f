"""The layers of a network, without TensorFlow: what each makes of a sample's shape, its weights and multiply-adds.

They are Keras's layers of these names with a subset of their arguments and its defaults, but that a convolution's and a
dense layer's penalties are arguments of their own. A test compares the counts with Keras's.
"""

from abc import ABC, abstractmethod
from math import prod
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny

from app.tuning.search.models import ImageShape, Shape

Activation = Literal["linear", "relu", "elu", "gelu", "silu", "tanh", "sigmoid"]
Padding = Literal["valid", "same"]
Penalty = Annotated[float, Field(ge=0, le=1)]
MAX_STRIDES = 8


class LayerError(ValueError):
    """A layer cannot take what it is given; `structural` if it could with no values of its hyperparameters."""

    def __init__(self, layer: "Layer", message: str, structural: bool = False) -> None:
        super().__init__(message)
        self.layer, self.structural = layer, structural


class Layer(BaseModel, ABC):
    """A layer; all methods take the shape of a sample that it is given and raise `LayerError` if it cannot take it."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
    layer: str

    @abstractmethod
    def output(self, shape: Shape) -> Shape:
        """The shape that it gives."""

    def weights(self, shape: Shape) -> int:
        """How many weights it has."""
        return 0

    def multiply_adds(self, shape: Shape) -> int:
        """Of one sample's forward pass: those of matrix products and convolutions."""
        return 0

    def activations(self, shape: Shape) -> int:
        """How many values one sample's forward pass holds."""
        return prod(self.output(shape))

    def count(self) -> int:
        """How many layers it is."""
        return 1

    def expect_image(self, shape: Shape) -> ImageShape:
        """The shape as an image's: height, width and channels."""
        if len(shape) != 3:
            raise LayerError(self, f"{self.layer} takes images, it gets {describe_shape(shape)}: leave it out", True)
        return shape[0], shape[1], shape[2]


class Dense(Layer):
    """Each unit a weighted sum of all inputs, with a bias."""

    layer: Literal["dense"] = "dense"
    units: int = Field(ge=1, le=65_536)
    activation: Activation = "linear"
    l1: Penalty = 0.0
    l2: Penalty = 0.0

    def output(self, shape: Shape) -> Shape:
        if len(shape) != 1:
            needs = "put flatten or global_average_pooling2d before it"
            raise LayerError(self, f"dense takes a flat input, it gets {describe_shape(shape)}: {needs}", True)
        return (self.units,)

    def weights(self, shape: Shape) -> int:
        return (shape[0] + 1) * self.units

    def multiply_adds(self, shape: Shape) -> int:
        return shape[0] * self.units


class Windowed(Layer):
    """A layer that moves a window over an image."""

    padding: Padding = "valid"

    def count_places(self, shape: Shape, size: int, strides: int) -> tuple[int, int]:
        """Rows and columns of the windows of `size` by `size`."""
        height, width, _ = self.expect_image(shape)
        if self.padding == "same":
            return -(-height // strides), -(-width // strides)
        if height < size or width < size:
            raise LayerError(self, f"{self.layer} of size {size} shrinks {height} by {width} to nothing")
        return (height - size) // strides + 1, (width - size) // strides + 1


class Conv2d(Windowed):
    """A convolution with a bias."""

    layer: Literal["conv2d"] = "conv2d"
    filters: int = Field(ge=1, le=4096)
    kernel_size: int = Field(ge=1, le=15)
    strides: int = Field(1, ge=1, le=MAX_STRIDES)
    activation: Activation = "linear"
    l1: Penalty = 0.0
    l2: Penalty = 0.0

    def output(self, shape: Shape) -> Shape:
        return *self.count_places(shape, self.kernel_size, self.strides), self.filters

    def weights(self, shape: Shape) -> int:
        return (self.kernel_size**2 * shape[-1] + 1) * self.filters

    def multiply_adds(self, shape: Shape) -> int:
        return prod(self.output(shape)) * self.kernel_size**2 * shape[-1]


class SeparableConv2d(Windowed):
    """A convolution of each channel by itself, then one of size 1 over all channels, with a bias."""

    layer: Literal["separable_conv2d"] = "separable_conv2d"
    filters: int = Field(ge=1, le=4096)
    kernel_size: int = Field(ge=1, le=15)
    strides: int = Field(1, ge=1, le=MAX_STRIDES)
    activation: Activation = "linear"

    def output(self, shape: Shape) -> Shape:
        return *self.count_places(shape, self.kernel_size, self.strides), self.filters

    def weights(self, shape: Shape) -> int:
        return (self.kernel_size**2 + self.filters) * shape[-1] + self.filters

    def multiply_adds(self, shape: Shape) -> int:
        return prod(self.output(shape)[:2]) * (self.kernel_size**2 + self.filters) * shape[-1]


class Pooling2d(Windowed):
    """One value for each window of a channel; windows do not overlap."""

    pool_size: int = Field(2, ge=1, le=MAX_STRIDES)

    def output(self, shape: Shape) -> Shape:
        return *self.count_places(shape, self.pool_size, self.pool_size), shape[-1]


class MaxPooling2d(Pooling2d):
    """The largest value of each window."""

    layer: Literal["max_pooling2d"] = "max_pooling2d"


class AveragePooling2d(Pooling2d):
    """The mean of each window."""

    layer: Literal["average_pooling2d"] = "average_pooling2d"


class GlobalAveragePooling2d(Layer):
    """The mean of each channel."""

    layer: Literal["global_average_pooling2d"] = "global_average_pooling2d"

    def output(self, shape: Shape) -> Shape:
        return (self.expect_image(shape)[-1],)


class Flatten(Layer):
    """All values in a row."""

    layer: Literal["flatten"] = "flatten"

    def output(self, shape: Shape) -> Shape:
        return (prod(shape),)


class Same(Layer):
    """A layer that keeps the shape."""

    def output(self, shape: Shape) -> Shape:
        return shape


class Dropout(Same):
    """Drops a share of the values while training."""

    layer: Literal["dropout"] = "dropout"
    rate: float = Field(ge=0, lt=1)


class BatchNormalization(Same):
    """Standardizes each channel: while training by the batch, else by moving averages; with scale and offset."""

    layer: Literal["batch_normalization"] = "batch_normalization"

    def weights(self, shape: Shape) -> int:
        return 4 * shape[-1]


class ActivationLayer(Same):
    """A function of each value."""

    layer: Literal["activation"] = "activation"
    activation: Activation


class Residual(Layer):
    """Layers whose input is added to their output, through a layer without activation where the shapes differ."""

    layer: Literal["residual"] = "residual"
    layers: tuple[SerializeAsAny[Layer], ...] = Field(min_length=1)

    def output(self, shape: Shape) -> Shape:
        output = output_of(self.layers, shape)
        self._find_shortcut(shape, output)
        return output

    def shortcut(self, shape: Shape) -> Layer | None:
        """What the input goes through: None, a dense layer or a convolution of size 1."""
        return self._find_shortcut(shape, output_of(self.layers, shape))

    def _find_shortcut(self, shape: Shape, output: Shape) -> Layer | None:
        if output == shape:
            return None
        if len(shape) == len(output) == 1:
            return Dense(units=output[0])
        found = f"residual adds {describe_shape(shape)} to {describe_shape(output)}"
        if len(shape) != len(output):
            raise LayerError(self, f"{found}: move what makes it flat behind it", True)
        for strides in range(1, MAX_STRIDES + 1):
            if (-(-shape[0] // strides), -(-shape[1] // strides)) == output[:2]:
                return Conv2d(filters=output[2], kernel_size=1, strides=strides, padding="same")
        raise LayerError(self, f"{found}, which no strides can do: use the padding 'same' within it")

    def _all(self, shape: Shape) -> list[tuple[Layer, Shape]]:
        shortcut = self.shortcut(shape)
        return [*pair_with_shapes(self.layers, shape), *([(shortcut, shape)] if shortcut else [])]

    def weights(self, shape: Shape) -> int:
        return sum(layer.weights(given) for layer, given in self._all(shape))

    def multiply_adds(self, shape: Shape) -> int:
        return sum(layer.multiply_adds(given) for layer, given in self._all(shape))

    def activations(self, shape: Shape) -> int:
        return sum(layer.activations(given) for layer, given in self._all(shape)) + prod(self.output(shape))

    def count(self) -> int:
        return sum(layer.count() for layer in self.layers)


LAYERS: dict[str, type[Layer]] = {
    kind.model_fields["layer"].default: kind
    for kind in (
        *(Dense, Conv2d, SeparableConv2d, MaxPooling2d, AveragePooling2d, GlobalAveragePooling2d),
        *(Flatten, Dropout, BatchNormalization, ActivationLayer, Residual),
    )
}


def pair_with_shapes(layers: tuple[Layer, ...], shape: Shape) -> list[tuple[Layer, Shape]]:
    """Each layer with the shape that it is given."""
    found = []
    for layer in layers:
        found.append((layer, shape))
        shape = layer.output(shape)
    return found


def output_of(layers: tuple[Layer, ...], shape: Shape) -> Shape:
    """The shape that layers in a row give."""
    for layer in layers:
        shape = layer.output(shape)
    return shape


def describe_shape(shape: Shape) -> str:
    """The shape in words, such as "28 by 28 by 1"."""
    return " by ".join(map(str, shape)) if len(shape) > 1 else f"a row of {shape[0]}"
