"""What determines a network's graph, and the numbers that it is called with instead."""

from collections.abc import Iterator
from math import prod
from typing import NamedTuple

import numpy as np

from app.tuning.search.layers import Conv2d, Dense, Dropout, Layer, Residual, pair_with_shapes
from app.tuning.search.models import Shape
from app.tuning.search.networks import Layers, measure_network
from worker.compiled.optimizers import SLOTS


class NetworkArchitecture(NamedTuple):
    """Everything that determines the graph: fits of equal architecture share one. Its layers have no rates."""

    layers: Layers
    shape: Shape  # of a sample: (height, width, channels) or (columns,)
    classes: int  # 0 for regression: one output
    optimizer: str
    momentum: bool
    weight_decay: bool
    weighted: bool = False  # whether classes count differently in training

    def multiply_adds(self) -> int:
        """Of one sample's forward pass."""
        return measure_network(self.layers, self.shape, self.classes).multiply_adds

    def activations(self) -> int:
        """Values that one sample's forward pass holds."""
        return measure_network(self.layers, self.shape, self.classes).activations

    def program_bytes(self) -> int:
        """Of the weights and of the optimizer's slots."""
        return 4 * measure_network(self.layers, self.shape, self.classes).weights * (1 + SLOTS[self.optimizer])

    def sample_bytes(self) -> int:
        """Of one sample: an image's are bytes, a table's float32."""
        return prod(self.shape) * (1 if len(self.shape) == 3 else 4)

    def score_batch(self) -> int:
        """Samples scored at a time: as many as keep the largest output within 8 MB, near the size of a cache."""
        sizes = [layer.activations(given) for layer, given in pair_with_shapes(self.layers, self.shape)]
        return int(np.clip(2**21 // max([prod(self.shape), *sizes]), 1, 1024))


class LayerRates(NamedTuple):
    """What layers are given as arguments of the graph, in their order: of dropouts, and of kernels with a penalty."""

    dropout: list[float]
    l1: list[float]
    l2: list[float]


def list_rates(layers: Layers) -> LayerRates:
    """The rates of the layers that have any."""
    flat = list(_walk(layers))
    penalized = [layer for layer in flat if isinstance(layer, Dense | Conv2d) and (layer.l1 or layer.l2)]
    dropout = [layer.rate for layer in flat if isinstance(layer, Dropout) and layer.rate]
    return LayerRates(dropout, [layer.l1 for layer in penalized], [layer.l2 for layer in penalized])


def strip_rates(layers: Layers) -> Layers:
    """The same layers; of each rate is left whether there is one."""
    return tuple(_strip(layer) for layer in layers)


def _walk(layers: Layers) -> Iterator[Layer]:
    for layer in layers:
        if isinstance(layer, Residual):
            yield from _walk(layer.layers)
        else:
            yield layer


def _strip(layer: Layer) -> Layer:
    if isinstance(layer, Residual):
        return layer.model_copy(update={"layers": strip_rates(layer.layers)})
    if isinstance(layer, Dropout):
        return layer.model_copy(update={"rate": 0.5 if layer.rate else 0.0})
    if isinstance(layer, Dense | Conv2d):
        rate = 1.0 if layer.l1 or layer.l2 else 0.0
        return layer.model_copy(update={"l1": rate, "l2": rate})
    return layer
