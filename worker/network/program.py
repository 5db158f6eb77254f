"""A network's compiled part: one graph per architecture, which runs many steps a call."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from app.tuning.search.layers import Dense
from worker.compiled.batches import Totals, count_true, mark_correct, run_batches
from worker.compiled.draws import make_weights_generator
from worker.compiled.optimizers import SLOTS, apply_update, make_update
from worker.compiled.program import Program
from worker.compiled.tensors import Rates, Tensor, Weight, tf
from worker.network.architecture import NetworkArchitecture
from worker.network.nodes import Pass, Positions, apply_nodes, make_nodes


class NetworkProgram(Program):
    """One architecture's weights, its optimizer's state, and the two graphs that train and score them."""

    def __init__(self, architecture: NetworkArchitecture) -> None:
        outputs = architecture.classes or 1
        super().__init__(architecture.optimizer, outputs)
        self.architecture = architecture
        layers = (*architecture.layers, Dense(units=outputs))
        positions = Positions()
        self._nodes = make_nodes(layers, architecture.shape, SLOTS[architecture.optimizer], positions)
        self._dropouts, self._penalized = positions.dropouts, positions.penalties
        signature = self._signature()
        self.train = tf.function(self._train, signature, autograph=False)
        self.score = tf.function(self._score, signature[:-1], autograph=False)
        self.predict = tf.function(self.compute_predictions, [signature[0], signature[3]], autograph=False)

    def _signature(self) -> list[Any]:
        real, whole = tf.TensorSpec((), tf.float32), tf.TensorSpec((), tf.int32)
        shape = self.architecture.shape
        samples = tf.TensorSpec((None, *shape), tf.uint8 if len(shape) == 3 else tf.float32)
        dropouts, penalties = (tf.TensorSpec((n,), tf.float32) for n in (self._dropouts, len(self._penalized)))
        rates = Rates(
            **{name: real for name in Rates._fields}
            | {"dropout_scale": dropouts, "dropout_rate": dropouts, "l1": penalties, "l2": penalties}
        )
        labels = tf.TensorSpec((None,), tf.int32 if self.architecture.classes else tf.float32)
        return [samples, labels, whole, rates, Totals.signature(), tf.TensorSpec((1,), tf.uint64)]

    def list_weights(self) -> list[Weight]:
        return [weight for node in self._nodes for weight in node.weights]

    def list_averages(self) -> list[Any]:
        return [average for node in self._nodes for average in node.averages]

    def draw_weights(self, seed: int) -> Iterator[np.ndarray]:
        random = make_weights_generator(seed)
        for node in self._nodes:
            yield from node.draw(random)

    def weights(self) -> list[np.ndarray]:
        return [value.numpy() for node in self._nodes for value in node.list_values()]

    def _forward(self, samples: Tensor, run: Pass) -> Tensor:
        """Samples (n, *shape) to logits (n, classes), or for regression to numbers (n, 1)."""
        return apply_nodes(self._nodes, tf.cast(samples, tf.float32) / run.rates.scale, run)

    def compute_logits(self, samples: Tensor, rates: Rates) -> Tensor:
        return self._forward(samples, Pass(rates))

    def compute_predictions(self, samples: Tensor, rates: Rates) -> Tensor:
        outputs = self.compute_logits(samples, rates)
        return tf.nn.softmax(outputs) if self.architecture.classes else outputs[:, 0]

    def _list_losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Of each sample, (n,): cross-entropy, or for regression the squared error."""
        if not self.architecture.classes:
            return tf.math.squared_difference(outputs[:, 0], labels)
        return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, outputs)

    def _mark_hits(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Which samples are classified correctly, bool (n,); for regression bool (0,)."""
        return mark_correct(outputs, labels) if self.architecture.classes else tf.constant([], tf.bool)

    def _penalty(self, rates: Rates) -> Tensor:
        total = tf.constant(0.0)
        for position, kernel in enumerate(self._penalized):
            # A penalty of rate 0 adds nothing even if its sum is infinite.
            total += tf.math.multiply_no_nan(tf.reduce_sum(tf.abs(kernel)), rates.l1[position])
            total += tf.math.multiply_no_nan(tf.reduce_sum(tf.square(kernel)), rates.l2[position])
        return total

    def _train(
        self, samples: Tensor, labels: Tensor, batch: Tensor, rates: Rates, totals: Totals, key: Tensor
    ) -> Totals:
        return run_batches(lambda some, truth: self._step(some, truth, rates, key), samples, labels, batch, totals)

    def _score(self, samples: Tensor, labels: Tensor, batch: Tensor, rates: Rates, totals: Totals) -> Totals:
        penalty = self._penalty(rates)

        def one(some: Tensor, truth: Tensor) -> Totals:
            outputs = self.compute_logits(some, rates)
            hits = self._mark_hits(outputs, truth)
            return Totals(tf.reduce_sum(self._list_losses(outputs, truth) + penalty), count_true(hits), hits)

        return run_batches(one, samples, labels, batch, totals)

    def _step(self, samples: Tensor, labels: Tensor, rates: Rates, key: Tensor) -> Totals:
        step = self.step.assign_add(1)
        weights = self.list_weights()
        variables = [weight.value for weight in weights]
        with tf.GradientTape() as tape:
            outputs = self._forward(samples, Pass(rates, key, step))
            losses = self._list_losses(outputs, labels)
            counted = losses * tf.gather(self.class_weights, labels) if self.architecture.weighted else losses
            loss = tf.reduce_mean(counted) + self._penalty(rates)
        update = make_update(self.architecture, tf.cast(step, tf.float32), rates, self.momentum_product)
        apply_update(update, weights, tape.gradient(loss, variables))
        total = loss * tf.cast(tf.shape(labels)[0], tf.float32)
        return Totals(total, count_true(self._mark_hits(outputs, labels)), tf.constant([], tf.bool))
