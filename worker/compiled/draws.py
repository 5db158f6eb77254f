"""What a fit draws from its seed before TensorFlow is asked: initial weights and the order of rows."""

from collections.abc import Iterator

import numpy as np


def find_span(kernel: tuple[int, ...]) -> np.float32:
    """The width of Glorot's uniform distribution (Glorot and Bengio, 2010) for a kernel of this shape."""
    return np.float32(2 * np.sqrt(6.0 / (np.prod(kernel[:-2]) * (kernel[-2] + kernel[-1]))))


def draw_kernel(random: np.random.Generator, kernel: tuple[int, ...]) -> np.ndarray:
    """A kernel of this shape, Keras's default; drawn from its last axis to its first."""
    return draw_uniform(random, kernel[::-1], find_span(kernel)).T


def draw_uniform(random: np.random.Generator, size: tuple[int, ...], span: np.float32) -> np.ndarray:
    """Numbers around 0, uniform within the span."""
    values = random.random(size, np.float32)
    values -= np.float32(0.5)
    values *= span
    return values


def make_weights_generator(seed: int) -> np.random.Generator:
    """What draws a fit's initial weights."""
    return np.random.Generator(np.random.SFC64([seed, 0]))


def draw_orders(rows: np.ndarray, seed: int) -> Iterator[np.ndarray]:
    """The rows in a new order for each epoch."""
    random = np.random.Generator(np.random.SFC64([seed, 1]))
    while True:
        yield random.permutation(rows)


def derive_dropout_key(seed: int) -> np.ndarray:
    """The key of what dropout draws, uint64 (1,)."""
    return np.random.SeedSequence([seed, 2]).generate_state(1, np.uint64)
