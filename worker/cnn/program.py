"""The compiled part of training: one graph per architecture, which runs many steps a call."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from worker.cnn.architecture import Architecture, draw_weights
from worker.cnn.convolution import convolve, convolve_windows
from worker.compiled.batches import Totals, count_true, mark_correct, run_batches
from worker.compiled.optimizers import SLOTS, Update, apply_update, make_update
from worker.compiled.program import Program
from worker.compiled.tensors import ACTIVATIONS, Rates, Tensor, Weight, draw_for_dropout, tf


class CnnProgram(Program):
    """One architecture's weights, its optimizer's state, and the two graphs that train and score them."""

    def __init__(self, shape: Architecture) -> None:
        super().__init__(shape.optimizer, shape.classes)
        self.shape = shape
        slots = SLOTS[shape.optimizer]
        *convolutions, dense, last = shape.kernels()
        sizes = [size for kernel in convolutions for size in (kernel, kernel[-1:])]
        self.convolutions = [Weight(size, slots) for size in sizes]
        # The dense kernel is stored transposed and in blocks: its products run faster, and a block's gradient
        # is still in the cache when the optimizer reads it.
        self.dense = [Weight((neurons, dense[0]), slots) for neurons in shape.dense_blocks()]
        self.head = [Weight(size, slots) for size in (dense[1:], last, last[1:])]
        self.windows = shape.windows()
        signature = self._signature()
        self.train = tf.function(self._train, signature, autograph=False)
        self.score = tf.function(self._score, signature[:-1], autograph=False)
        self.predict = tf.function(self.compute_predictions, [signature[0], signature[3]], autograph=False)

    def _signature(self) -> list[Any]:
        real, whole = tf.TensorSpec((), tf.float32), tf.TensorSpec((), tf.int32)
        images = tf.TensorSpec((None, *self.windows.shape), tf.uint8)
        labels = tf.TensorSpec((None,), tf.int32)
        rates = Rates(*[real] * len(Rates._fields))
        return [images, labels, whole, rates, Totals.signature(), tf.TensorSpec((1,), tf.uint64)]

    def list_weights(self) -> list[Weight]:
        return [*self.convolutions, *self.dense, *self.head]

    def draw_weights(self, seed: int) -> Iterator[np.ndarray]:
        return draw_weights(self.shape, seed)

    def weights(self) -> list[np.ndarray]:
        dense = np.concatenate([block.value.numpy() for block in self.dense]).T
        convolutions, head = ([w.value.numpy() for w in part] for part in (self.convolutions, self.head))
        return [*convolutions, dense, *head]

    def _features(self, images: Tensor, scale: Tensor) -> Tensor:
        """Bytes (n, rows, columns, pixels) to the dense layer's inputs, (n, inputs)."""
        kernel, bias, *others = (weight.value for weight in self.convolutions)
        x = convolve_windows(tf.cast(images, tf.float32) / scale, kernel, bias, self.shape.activation)
        for kernel, bias in zip(others[::2], others[1::2], strict=True):
            x = convolve(x, kernel, bias, self.shape.activation)
        return tf.reshape(x, (-1, self.dense[0].value.shape[1]))

    def _sums(self, features: Tensor) -> Tensor:
        """The dense layer's products, (n, neurons), before bias and activation."""
        return tf.transpose(tf.concat([tf.matmul(block.value, features, transpose_b=True) for block in self.dense], 0))

    def _logits(self, sums: Tensor, rates: Rates, draw: Tensor | None) -> Tensor:
        """Logits (n, classes); `draw`, uniform in [0, 1), decides what is dropped out in training."""
        bias, last, last_bias = (weight.value for weight in self.head)
        x = ACTIVATIONS[self.shape.activation](tf.nn.bias_add(sums, bias))
        if draw is not None:
            x = tf.where(draw >= rates.dropout_rate, x * rates.dropout_scale, 0.0)
        return tf.nn.bias_add(tf.matmul(x, last), last_bias)

    def compute_logits(self, samples: Tensor, rates: Rates) -> Tensor:
        return self._logits(self._sums(self._features(samples, rates.scale)), rates, None)

    def _penalty(self, rates: Rates) -> Tensor:
        if not self.shape.penalty:
            return tf.constant(0.0)
        kernels = [block.value for block in self.dense]
        absolute, squares = (tf.add_n([tf.reduce_sum(f(k)) for k in kernels]) for f in (tf.abs, tf.square))
        # A penalty of rate 0 adds nothing even if its sum is infinite.
        return tf.math.multiply_no_nan(absolute, rates.l1) + tf.math.multiply_no_nan(squares, rates.l2)

    def _train(
        self, images: Tensor, labels: Tensor, batch: Tensor, rates: Rates, totals: Totals, seed: Tensor
    ) -> Totals:
        """Train on the images in their order, `batch` of them a step, the last step on the rest; add to `totals`.

        `images`, uint8 (n, rows, columns, pixels), are laid out by `windows`.
        """
        return run_batches(lambda pixels, truth: self._step(pixels, truth, rates, seed), images, labels, batch, totals)

    def _score(self, images: Tensor, labels: Tensor, batch: Tensor, rates: Rates, totals: Totals) -> Totals:
        """Score images laid out as for training, `batch` of them at a time; add to `totals`."""
        penalty = self._penalty(rates)

        def one(pixels: Tensor, truth: Tensor) -> Totals:
            logits = self.compute_logits(pixels, rates)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(truth, logits)
            hits = mark_correct(logits, truth)
            return Totals(tf.reduce_sum(losses + penalty), count_true(hits), hits)

        return run_batches(one, images, labels, batch, totals)

    def _step(self, images: Tensor, labels: Tensor, rates: Rates, seed: Tensor) -> Totals:
        step = self.step.assign_add(1)
        size = tf.shape(labels)[0]
        draw = self._draw(size, seed, step) if self.shape.dropout else None
        update = make_update(self.shape, tf.cast(step, tf.float32), rates, self.momentum_product)
        with tf.GradientTape() as below:
            features = self._features(images, rates.scale)
        sums = self._sums(features)
        with tf.GradientTape() as above:
            above.watch(sums)
            logits = self._logits(sums, rates, draw)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
            loss = tf.reduce_mean(losses * tf.gather(self.class_weights, labels) if self.shape.weighted else losses)
        total = (loss + self._penalty(rates)) * tf.cast(size, tf.float32)
        upstream, *gradients = above.gradient(loss, [sums, *(weight.value for weight in self.head)])
        apply_update(update, self.head, gradients)
        upstream = self._train_dense(features, upstream, rates, update)
        variables = [weight.value for weight in self.convolutions]
        apply_update(update, self.convolutions, below.gradient(features, variables, output_gradients=upstream))
        return Totals(total, count_true(mark_correct(logits, labels)), tf.constant([], tf.bool))

    def _draw(self, size: Tensor, seed: Tensor, step: Tensor) -> Tensor:
        return draw_for_dropout([size, self.shape.num_neurons], seed, 0, step)

    def _train_dense(self, features: Tensor, upstream: Tensor, rates: Rates, update: "Update") -> Tensor:
        """Train the dense kernel block by block; return the gradient with respect to the features, (n, inputs)."""
        passed_on: list[Tensor] = []
        previous: list[Any] = [upstream]
        for block, part in zip(self.dense, tf.split(tf.transpose(upstream), self.shape.dense_blocks()), strict=True):
            with tf.control_dependencies(previous):
                passed_on.append(tf.matmul(part, block.value, transpose_a=True))
                gradient = tf.matmul(part, features)
            if self.shape.penalty:
                gradient += rates.l1 * tf.sign(block.value) + 2.0 * rates.l2 * block.value
            # Update the weight after its last reader: otherwise TensorFlow copies it.
            with tf.control_dependencies([passed_on[-1], gradient]):
                previous = [update(block, gradient)]
        return tf.add_n(passed_on)
