"""What shapes a network: the sizes of its layers, their first weights, and what a pass through them costs."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

# Beyond this a block of the dense kernel, its gradient and the optimizer's state no longer stay in a processor's cache.
_BLOCK_WEIGHTS = 3 * 2**18


class Architecture(NamedTuple):
    """What shapes a graph; fits that agree in it share one."""

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
        """Indices (rows, columns, pixels) into a flat image: what each value of the first pooled map depends on."""
        side = self.kernel_size + 1
        pixels = np.arange(self.height * self.width).reshape(self.height, self.width)
        seen = np.lib.stride_tricks.sliding_window_view(pixels, (side, side))[::2, ::2]
        return seen.reshape(*seen.shape[:2], -1)

    def work(self) -> int:
        """Multiply-adds of one image's forward pass."""
        height, width, total = self.height, self.width, 0
        for kernel in self.kernels():
            if len(kernel) == 2:
                total += kernel[0] * kernel[1]
                continue
            height, width = height - self.kernel_size + 1, width - self.kernel_size + 1
            total += height * width * int(np.prod(kernel))
            height, width = height // 2, width // 2
        return total

    def weights(self) -> int:
        """How many weights there are."""
        return sum(int(np.prod(kernel)) + kernel[-1] for kernel in self.kernels())

    def activations(self) -> int:
        """How many numbers an image's pass through the network makes, the most of them before the first pooling."""
        side = (self.height - self.kernel_size + 1) * (self.width - self.kernel_size + 1)
        return side * self.filters + self.num_neurons

    def dense_blocks(self) -> list[int]:
        """How many neurons each part of the dense layer has, which is stored and trained in parts."""
        inputs = self.kernels()[-2][0]
        parts = min(self.num_neurons, -(-inputs * self.num_neurons // _BLOCK_WEIGHTS))
        return [len(part) for part in np.array_split(np.arange(self.num_neurons), parts)]

    def score_batch(self) -> int:
        """Images scored at a time: as many as keep the first feature map within 8 MB, which caches still help."""
        side = (self.height - self.kernel_size + 1) * (self.width - self.kernel_size + 1)
        return int(np.clip(2**21 // (side * self.filters), 1, 1024))


def initial_weights(shape: Architecture, seed: int) -> Iterator[np.ndarray]:
    """Keras's defaults, kernel and bias in turn: Glorot's uniform (Glorot and Bengio, 2010) and zeros.

    The first dense kernel comes transposed and in its blocks, as it is stored: a large one is never held twice.
    """
    random = np.random.Generator(np.random.SFC64([seed, 0]))
    *convolutions, dense, last = shape.kernels()
    for kernel in (*convolutions, dense, last):
        span = np.float32(2 * np.sqrt(6.0 / (np.prod(kernel[:-2]) * (kernel[-2] + kernel[-1]))))
        if kernel is dense:
            yield from (_drawn(random, (neurons, dense[0]), span) for neurons in shape.dense_blocks())
        else:
            yield _drawn(random, kernel[::-1], span).T
        yield np.zeros(kernel[-1], np.float32)


def _drawn(random: np.random.Generator, size: tuple[int, ...], span: np.float32) -> np.ndarray:
    values = random.random(size, np.float32)
    values -= np.float32(0.5)
    values *= span
    return values
