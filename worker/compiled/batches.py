"""Many steps in one call: the loop over batches within a graph, and the sums that come of it."""

from collections.abc import Callable
from typing import NamedTuple

from worker.compiled.tensors import Tensor, tf


class Totals(NamedTuple):
    """Sums over samples: losses and correct classifications; in scoring also which were correct, bool (n,)."""

    loss: Tensor
    correct: Tensor
    hits: Tensor

    @classmethod
    def zero(cls) -> "Totals":
        """Zeros and no hits; losses are summed in float64."""
        return cls(tf.constant(0.0, tf.float64), tf.constant(0), tf.constant([], tf.bool))

    @classmethod
    def signature(cls) -> "Totals":
        """What a graph takes as totals."""
        return cls(tf.TensorSpec((), tf.float64), tf.TensorSpec((), tf.int32), tf.TensorSpec((None,), tf.bool))


def run_batches(
    one: Callable[[Tensor, Tensor], Totals], samples: Tensor, labels: Tensor, batch: Tensor, totals: Totals
) -> Totals:
    """Call `one` for `batch` samples at a time in their order, the last time for the rest; add to `totals`."""
    count, size = tf.size(labels), samples.shape[1:].num_elements()
    flat = tf.reshape(samples, (-1,))  # TensorFlow slices one dimension without a copy, several not always.

    def body(start: Tensor, so_far: Totals) -> tuple[Tensor, Totals]:
        end = tf.minimum(start + batch, count)
        part = tf.reshape(flat[start * size : end * size], (-1, *samples.shape[1:]))
        more = one(part, labels[start:end])
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


def count_true(hits: Tensor) -> Tensor:
    """The number of true values."""
    return tf.reduce_sum(tf.cast(hits, tf.int32))
