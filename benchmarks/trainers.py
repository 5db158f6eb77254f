"""Tunewell's training and Keras's in one process, each on one thread, and the machine's rate as reference."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from app.tuning.search.models import Cnn
from benchmarks import article
from worker.cnn import trainer  # sets TensorFlow to one thread, so it comes before Keras does anything
from worker.training import Split

MATRIX = 2048
MATRICES = 5
Params = dict[str, Any]


def hyperparameters(**chosen: Any) -> Params:
    """The example network with these hyperparameters."""
    return Cnn.model_validate({"batch_size": article.BATCH, "epochs": 1, **chosen}).model_dump()


class Bytes:
    """MNIST as Tunewell's worker holds it."""

    def __init__(self) -> None:
        with np.load(article.mnist_file()) as arrays:
            self.images, self.labels = arrays["x_train"], arrays["y_train"]
        self.rows = np.arange(len(self.labels), dtype=np.int32)

    def split(self, samples: int, scored: int) -> Split:
        """Train on the first `samples`, score on the last `scored`."""
        rows, scored_rows = self.rows[:samples], self.rows[-scored:]
        return Split(
            self.images, self.labels, rows, self.images, self.labels, scored_rows, 255.0, article.CLASSES, False
        )


def train(params: Params, split: Split, seed: int = 1) -> None:
    """One of Tunewell's fits."""
    trainer.train_network(params, split, seed, lambda within: None, lambda epoch: None)


def multiply_adds(params: Params) -> int:
    """The multiply-adds of training on one image.

    Forward once, and backward twice as much again: the gradients by each layer's weights and by its input. The first
    layer's input is the image, whose gradient nobody needs. Only matrix products and convolutions are counted, not the
    optimizer, activations, pooling or dropout.
    """
    network = Cnn.model_validate(params)
    forward = network.multiply_adds((28, 28, 1), article.CLASSES)
    side = 28 - network.kernel_size + 1
    return int(3 * forward - side * side * network.kernel_size**2 * network.filters)


def matrix_rate() -> float:
    """Multiply-adds a second of a large float32 matrix product: the best of several."""
    import tensorflow as tf

    one = tf.random.stateless_uniform((MATRIX, MATRIX), (1, 2))
    best = min(seconds(lambda: tf.matmul(one, one).numpy()) for _ in range(MATRICES))
    return float(MATRIX**3 / best)


def seconds(call: Callable[[], Any]) -> float:
    """The seconds that a call takes."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began
