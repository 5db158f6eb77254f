"""A network's architecture: the sizes of its layers, their initial weights, and the cost of a forward pass."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from app.tuning.search.models import Cnn
from worker.compiled.draws import draw_kernel, draw_uniform, find_span, make_weights_generator
from worker.compiled.optimizers import SLOTS

# A larger block of the dense kernel, with its gradient and optimizer state, does not fit in a processor's cache.
_BLOCK_WEIGHTS = 3 * 2**18


class Architecture(NamedTuple):
    """Everything that determines the graph: fits of equal architecture share one."""

    height: int
    width: int
    classes: int
    conv_blocks: int
    filters: int
    kernel_size: int
    num_neurons: int
    activation: str
    optimizer: str
    momentum: bool
    weight_decay: bool
    penalty: bool
    dropout: bool
    weighted: bool = False  # whether classes count differently in training

    def kernels(self) -> list[tuple[int, ...]]:
        """Shapes of the kernels, convolutions first, then two dense layers; ValueError if an image is too small."""
        height, width, channels = self.height, self.width, 1
        shapes: list[tuple[int, ...]] = []
        for block in range(self.conv_blocks):
            filters = self.filters * 2**block
            shapes.append((self.kernel_size, self.kernel_size, channels, filters))
            height, width, channels = (height - self.kernel_size + 1) // 2, (width - self.kernel_size + 1) // 2, filters
            if height < 1 or width < 1:
                raise ValueError(f"conv block {block + 1} leaves nothing of the {self.height} by {self.width} image")
        return [*shapes, (height * width * channels, self.num_neurons), (self.num_neurons, self.classes)]

    def windows(self) -> np.ndarray:
        """Indices (rows, columns, pixels) into a flat image: the pixels behind each value of the first pooled map."""
        side = self.kernel_size + 1
        pixels = np.arange(self.height * self.width).reshape(self.height, self.width)
        seen = np.lib.stride_tricks.sliding_window_view(pixels, (side, side))[::2, ::2]
        return seen.reshape(*seen.shape[:2], -1)

    def multiply_adds(self) -> int:
        """Multiply-adds of one image's forward pass, by the formula that orders a job's fits."""
        network = Cnn(
            conv_blocks=self.conv_blocks,
            filters=self.filters,
            kernel_size=self.kernel_size,
            num_neurons=self.num_neurons,
        )
        return network.multiply_adds((self.height, self.width, 1), self.classes)

    def weights(self) -> int:
        """The number of weights."""
        return sum(int(np.prod(kernel)) + kernel[-1] for kernel in self.kernels())

    def program_bytes(self) -> int:
        """Bytes of the weights and of the optimizer's slots."""
        return 4 * self.weights() * (1 + SLOTS[self.optimizer])

    def sample_bytes(self) -> int:
        """Bytes of one image, laid out by `windows`."""
        return self.windows().size

    def activations(self) -> int:
        """Values that one image's forward pass holds, roughly: the first feature map and the dense layer's output."""
        side = (self.height - self.kernel_size + 1) * (self.width - self.kernel_size + 1)
        return side * self.filters + self.num_neurons

    def dense_blocks(self) -> list[int]:
        """Neurons in each block of the dense layer, which is stored and trained block by block."""
        inputs = self.kernels()[-2][0]
        parts = min(self.num_neurons, -(-inputs * self.num_neurons // _BLOCK_WEIGHTS))
        return [len(part) for part in np.array_split(np.arange(self.num_neurons), parts)]

    def score_batch(self) -> int:
        """Images scored at a time: as many as keep the first feature map within 8 MB, near the size of a cache."""
        side = (self.height - self.kernel_size + 1) * (self.width - self.kernel_size + 1)
        return int(np.clip(2**21 // (side * self.filters), 1, 1024))


def draw_weights(shape: Architecture, seed: int) -> Iterator[np.ndarray]:
    """Keras's defaults, kernel and bias in turn: Glorot's uniform (Glorot and Bengio, 2010) and zeros.

    The first dense kernel comes transposed and in its blocks, as it is stored, so that a large one is never held twice.
    """
    random = make_weights_generator(seed)
    *convolutions, dense, last = shape.kernels()
    for kernel in (*convolutions, dense, last):
        if kernel is dense:
            span = find_span(kernel)
            yield from (draw_uniform(random, (neurons, dense[0]), span) for neurons in shape.dense_blocks())
        else:
            yield draw_kernel(random, kernel)
        yield np.zeros(kernel[-1], np.float32)
