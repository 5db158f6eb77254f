"""The convolutional blocks: convolution, activation and max-pooling, the first as matrix products."""

import numpy as np

from worker.compiled.tensors import ACTIVATIONS, Tensor, tf


def convolve_windows(x: Tensor, kernel: Tensor, bias: Tensor, activation: str) -> Tensor:
    """The first convolution, activated and pooled, (n, rows, columns, pixels) to (n, rows, columns, filters).

    A window holds the pixels of four convolutions, each with the kernel padded by a margin of zeros: as matrix products
    they take half the time of a convolution and its pooling, although those multiply less. max(a, b) = a + relu(b - a),
    and b - a is one matrix product: most of its gradient costs nothing.
    """
    (_, *places, pixels), filters, act = x.shape, kernel.shape[-1], ACTIVATIONS[activation]
    side = kernel.shape[0] + 1
    pixel = np.eye(pixels, dtype=np.float32).reshape(side, side, pixels)
    inside = [pixel[top : top + side - 1, left : left + side - 1] for top in (0, 1) for left in (0, 1)]
    one, two, three, four = (part.reshape(-1, pixels).T for part in inside)
    x = tf.reshape(x, (-1, pixels))

    def product(margins: np.ndarray) -> Tensor:
        return tf.matmul(x, tf.matmul(margins, tf.reshape(kernel, (-1, filters))))

    if activation == "gelu":
        activated = [act(tf.nn.bias_add(product(margins), bias)) for margins in (one, two, three, four)]
        pooled = _maximum(_maximum(activated[0], activated[1]), _maximum(activated[2], activated[3]))
    else:
        above = product(one) + tf.nn.relu(product(two - one))
        below = product(three) + tf.nn.relu(product(four - three))
        pooled = act(tf.nn.bias_add(_maximum(above, below), bias))
    return tf.reshape(pooled, (-1, *places, filters))


def _maximum(first: Tensor, second: Tensor) -> Tensor:
    """The larger of two values; the gradient goes to the first of equals, as max-pooling's does."""
    # tf.custom_gradient would keep every graph alive, and with it the weights.
    return tf.raw_ops.Select(condition=first >= second, x=first, y=second)


def convolve(x: Tensor, kernel: Tensor, bias: Tensor, activation: str) -> Tensor:
    """A further convolution, activated and pooled, of feature maps (n, rows, columns, channels)."""
    x = tf.nn.conv2d(x, kernel, 1, "VALID")
    if activation == "gelu":
        return tf.nn.max_pool2d(ACTIVATIONS[activation](tf.nn.bias_add(x, bias)), 2, 2, "VALID")
    # Max-pooling commutes with any non-decreasing activation: activate after pooling, on a quarter of the values.
    return ACTIVATIONS[activation](tf.nn.bias_add(tf.nn.max_pool2d(x, 2, 2, "VALID"), bias))
