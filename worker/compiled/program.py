"""A compiled network: its weights, the optimizer's state, and graphs that run many steps a call."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from worker.compiled.batches import Totals
from worker.compiled.optimizers import empty_slot
from worker.compiled.tensors import Rates, Tensor, Weight, tf


class Program(ABC):
    """All fits of one architecture share it, one after the other.

    `train(samples, labels, batch, rates, totals, dropout_key)` trains on the samples in their order, `batch` of them a
    step, the last step on the rest, and adds to the totals. `score(samples, labels, batch, rates, totals)` scores them,
    and `predict(samples, rates)` gives the probabilities of their classes, (n, classes), or the predicted numbers (n,).
    """

    train: Callable[..., Totals]
    score: Callable[..., Totals]
    predict: Callable[[Tensor, Rates], Tensor]

    def __init__(self, optimizer: str, classes: int) -> None:
        self._empty = empty_slot(optimizer)
        # What a sample of each class counts in training; a graph that does not weigh has no part of it.
        self.class_weights = tf.Variable(tf.ones(classes), trainable=False)
        self.step = tf.Variable(0, dtype=tf.int64)
        self.momentum_product = tf.Variable(1.0)
        self._clear_optimizer: Callable[[], None] = tf.function(self._clear, autograph=False)

    @abstractmethod
    def list_weights(self) -> list[Weight]:
        """The weights that gradients change."""

    @abstractmethod
    def draw_weights(self, seed: int) -> Iterable[np.ndarray]:
        """Initial values of the weights, in the same order."""

    @abstractmethod
    def compute_logits(self, samples: Tensor, rates: Rates) -> Tensor:
        """Samples as the program takes them, (n, ...), to logits, (n, classes), as in scoring."""

    def compute_predictions(self, samples: Tensor, rates: Rates) -> Tensor:
        """Samples likewise to the probabilities of the classes, (n, classes)."""
        return tf.nn.softmax(self.compute_logits(samples, rates))

    def list_averages(self) -> list[Any]:
        """The variables that training changes without a gradient: pairs of means, first 0, and variances, first 1."""
        return []

    @abstractmethod
    def weights(self) -> list[np.ndarray]:
        """The weights as `keras.Model.get_weights` would order and lay them out."""

    def reset(self, seed: int) -> None:
        """Draw the weights from the seed and clear everything else, whatever was trained before."""
        self._clear_optimizer()
        for weight, value in zip(self.list_weights(), self.draw_weights(seed), strict=True):
            weight.value.assign(value)

    def _clear(self) -> None:
        for slot in [slot for weight in self.list_weights() for slot in weight.slots]:
            slot.assign(tf.fill(slot.shape, self._empty))
        for number, average in enumerate(self.list_averages()):
            average.assign(tf.fill(average.shape, float(number % 2)))
        self.step.assign(0)
        self.momentum_product.assign(1.0)

    def snapshot(self) -> list[np.ndarray]:
        """The weights and the optimizer's state."""
        return [variable.numpy() for variable in self._list_state()]

    def restore(self, arrays: list[np.ndarray]) -> bool:
        """Take over a snapshot of this architecture; False, with nothing changed, if it is of another one."""
        state = self._list_state()
        kinds = [(tuple(variable.shape), variable.dtype.as_numpy_dtype) for variable in state]
        if kinds != [(array.shape, array.dtype.type) for array in arrays]:
            return False
        for variable, array in zip(state, arrays, strict=True):
            variable.assign(array)
        return True

    def _list_state(self) -> list[Any]:
        weights = [variable for weight in self.list_weights() for variable in (weight.value, *weight.slots)]
        return [*weights, *self.list_averages(), self.step, self.momentum_product]
