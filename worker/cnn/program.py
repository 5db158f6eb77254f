"""The compiled part of training: one graph per architecture, which runs many steps a call."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from worker.cnn.architecture import Architecture, draw_weights
from worker.cnn.convolution import convolve, convolve_windows
from worker.cnn.optimizers import SLOTS, Update, apply_update, make_update
from worker.cnn.tensors import ACTIVATIONS, Rates, Tensor, Weight, tf


class Totals(NamedTuple):
    """Sums over images: losses and correct classifications; in scoring also which images were correct, bool (n,)."""

    loss: Tensor
    correct: Tensor
    hits: Tensor

    @classmethod
    def zero(cls) -> "Totals":
        """Zeros and no hits; losses are summed in float64."""
        return cls(tf.constant(0.0, tf.float64), tf.constant(0), tf.constant([], tf.bool))


class Program:
    """One architecture's weights, its optimizer's state, and the two graphs that train and score them."""

    def __init__(self, shape: Architecture) -> None:
        self.shape = shape
        slots = SLOTS[shape.optimizer]
        *convolutions, dense, last = shape.kernels()
        sizes = [size for kernel in convolutions for size in (kernel, kernel[-1:])]
        self.convolutions = [Weight(size, slots) for size in sizes]
        # The dense kernel is stored transposed and in blocks: its products run faster, and a block's gradient
        # is still in the cache when the optimizer reads it.
        self.dense = [Weight((neurons, dense[0]), slots) for neurons in shape.dense_blocks()]
        self.head = [Weight(size, slots) for size in (dense[1:], last, last[1:])]
        self.step = tf.Variable(0, dtype=tf.int64)
        self.momentum_product = tf.Variable(1.0)
        self.windows = shape.windows()
        signature = self._signature()
        self.train: Callable[..., Totals] = tf.function(self._train, signature, autograph=False)
        self.score: Callable[..., Totals] = tf.function(self._score, signature[:-1], autograph=False)
        self._clear_optimizer: Callable[[], None] = tf.function(self._clear, autograph=False)

    @staticmethod
    def size(shape: Architecture) -> int:
        """Bytes of the weights and of the optimizer's slots."""
        return 4 * shape.weights() * (1 + SLOTS[shape.optimizer])

    def _signature(self) -> list[Any]:
        real, whole = tf.TensorSpec((), tf.float32), tf.TensorSpec((), tf.int32)
        images = tf.TensorSpec((None, *self.windows.shape), tf.uint8)
        labels = tf.TensorSpec((None,), tf.uint8)
        rates, hits = Rates(*[real] * len(Rates._fields)), tf.TensorSpec((None,), tf.bool)
        totals = Totals(tf.TensorSpec((), tf.float64), whole, hits)
        return [images, labels, whole, rates, totals, tf.TensorSpec((1,), tf.uint64)]

    def reset(self, seed: int) -> None:
        """Draw the weights from the seed and clear the optimizer's state, whatever was trained before."""
        self._clear_optimizer()
        for weight, value in zip(self._list_weights(), draw_weights(self.shape, seed), strict=True):
            weight.value.assign(value)

    def _list_weights(self) -> list[Weight]:
        return [*self.convolutions, *self.dense, *self.head]

    def _clear(self) -> None:
        # Keras adds Adagrad's epsilon under the root; the fused kernel has none, so the sum starts with it.
        empty = 0.1 + 1e-7 if self.shape.optimizer == "adagrad" else 0.0
        for slot in [slot for weight in self._list_weights() for slot in weight.slots]:
            slot.assign(tf.fill(slot.shape, empty))
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
        weights = [variable for weight in self._list_weights() for variable in (weight.value, *weight.slots)]
        return [*weights, self.step, self.momentum_product]

    def weights(self) -> list[np.ndarray]:
        """The weights as `keras.Model.get_weights` would order and lay them out."""
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
        return _each_batch(lambda pixels, truth: self._step(pixels, truth, rates, seed), images, labels, batch, totals)

    def _score(self, images: Tensor, labels: Tensor, batch: Tensor, rates: Rates, totals: Totals) -> Totals:
        """Score images laid out as for training, `batch` of them at a time; add to `totals`."""
        penalty = self._penalty(rates)

        def one(pixels: Tensor, truth: Tensor) -> Totals:
            logits = self._logits(self._sums(self._features(pixels, rates.scale)), rates, None)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(truth, logits)
            hits = mark_correct(logits, truth)
            return Totals(tf.reduce_sum(losses + penalty), _count(hits), hits)

        return _each_batch(one, images, labels, batch, totals)

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
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        total = (loss + self._penalty(rates)) * tf.cast(size, tf.float32)
        upstream, *gradients = above.gradient(loss, [sums, *(weight.value for weight in self.head)])
        apply_update(update, self.head, gradients)
        upstream = self._train_dense(features, upstream, rates, update)
        variables = [weight.value for weight in self.convolutions]
        apply_update(update, self.convolutions, below.gradient(features, variables, output_gradients=upstream))
        return Totals(total, _count(mark_correct(logits, labels)), tf.constant([], tf.bool))

    def _draw(self, size: Tensor, seed: Tensor, step: Tensor) -> Tensor:
        counter = tf.stack([tf.constant(0, tf.uint64), tf.cast(step, tf.uint64)])
        return tf.raw_ops.StatelessRandomUniformV2(
            shape=[size, self.shape.num_neurons], key=seed, counter=counter, alg=1, dtype=tf.float32
        )

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


def _each_batch(
    one: Callable[[Tensor, Tensor], Totals], images: Tensor, labels: Tensor, batch: Tensor, totals: Totals
) -> Totals:
    count, size = tf.size(labels), images.shape[1:].num_elements()
    flat = tf.reshape(images, (-1,))  # TensorFlow slices one dimension without a copy, several not always.

    def body(start: Tensor, so_far: Totals) -> tuple[Tensor, Totals]:
        end = tf.minimum(start + batch, count)
        pixels = tf.reshape(flat[start * size : end * size], (-1, *images.shape[1:]))
        more = one(pixels, tf.cast(labels[start:end], tf.int32))
        loss, hits = so_far.loss + tf.cast(more.loss, tf.float64), tf.concat([so_far.hits, more.hits], 0)
        return start + batch, Totals(loss, so_far.correct + more.correct, hits)

    first = (tf.constant(0), totals)
    shapes = (tf.TensorShape(()), Totals(tf.TensorShape(()), tf.TensorShape(()), tf.TensorShape((None,))))
    summed: Totals = tf.while_loop(lambda start, _: start < count, body, first, shapes, parallel_iterations=1)[1]
    return summed


def mark_correct(logits: Tensor, labels: Tensor) -> Tensor:
    """Which rows are classified correctly, bool (n,)."""
    # By the probabilities, as Keras: a row with a NaN or infinite logit becomes NaN throughout and counts as class 0.
    return tf.equal(tf.argmax(tf.nn.softmax(logits), 1, output_type=tf.int32), labels)


def _count(hits: Tensor) -> Tensor:
    """The number of true values."""
    return tf.reduce_sum(tf.cast(hits, tf.int32))
