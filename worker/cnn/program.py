"""The compiled part of training: one graph per architecture, which runs many steps a call."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# oneDNN multiplies the thin matrices of small batches up to twice as fast; TensorFlow leaves it off on many CPUs.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from app.tuning.logs import log_native_stderr

with log_native_stderr():
    import tensorflow as tf

from worker.cnn.architecture import Architecture, initial_weights

TENSORFLOW_VERSION: str = tf.__version__
Tensor = Any  # TensorFlow ships no types.

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": tf.nn.relu,
    "elu": tf.nn.elu,
    "tanh": tf.nn.tanh,
    "gelu": lambda x: tf.nn.gelu(x, approximate=False),
}
_SLOTS = {"adam": 2, "adamw": 2, "nadam": 3, "rmsprop": 2, "adagrad": 1, "sgd": 1}


def configure_tensorflow() -> None:
    """Make TensorFlow deterministic, one thread a process, modest with a GPU's memory; call before its first use."""
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)
        # One thread of a CPU is deterministic by itself, and its ordinary kernels are the faster ones.
        tf.config.experimental.enable_op_determinism()


class Rates(NamedTuple):
    """What the graph takes as arguments, float32 each: hyperparameters, and `scale`, the largest pixel."""

    scale: float
    dropout_scale: float  # 1 / (1 - dropout_rate), for which float32 can be too coarse: it takes 0.99999999 for 1
    learning_rate: float
    dropout_rate: float
    momentum: float
    weight_decay: float
    l1: float
    l2: float


class Totals(NamedTuple):
    """Sums over the images of a chunk: of the losses, and of the images classified rightly."""

    loss: Tensor
    correct: Tensor

    @classmethod
    def zero(cls) -> "Totals":
        """Nothing seen yet; losses are summed in float64."""
        return cls(tf.constant(0.0, tf.float64), tf.constant(0))


def to_tensor(values: Any, kind: str) -> Tensor:
    """A copy of the values as TensorFlow holds them; `kind` is a dtype's name."""
    return tf.constant(values, kind)


class _Weight:
    """A variable and what the optimizer remembers of it."""

    def __init__(self, size: tuple[int, ...], slots: int) -> None:
        self.value = tf.Variable(tf.zeros(size))
        self.slots = [tf.Variable(tf.zeros(size)) for _ in range(slots)]


class Program:
    """One architecture's weights, its optimizer's state, and the two graphs that train and score them."""

    def __init__(self, shape: Architecture) -> None:
        self.shape = shape
        slots = _SLOTS[shape.optimizer]
        *convolutions, dense, last = shape.kernels()
        sizes = [size for kernel in convolutions for size in (kernel, kernel[-1:])]
        self.convolutions = [_Weight(size, slots) for size in sizes]
        # The dense kernel lies transposed and in blocks: its products run faster so, and a block's gradient
        # is still in the cache when the optimizer reads it.
        self.dense = [_Weight((neurons, dense[0]), slots) for neurons in shape.dense_blocks()]
        self.head = [_Weight(size, slots) for size in (dense[1:], last, last[1:])]
        self.step = tf.Variable(0, dtype=tf.int64)
        self.momentum_product = tf.Variable(1.0)
        self.windows = shape.windows()
        signature = self._signature()
        self.train: Callable[..., Totals] = tf.function(self._train, signature, autograph=False)
        self.score: Callable[..., Totals] = tf.function(self._score, signature[:-1], autograph=False)
        self._restart: Callable[[], None] = tf.function(self._empty, autograph=False)

    @staticmethod
    def size(shape: Architecture) -> int:
        """Bytes of the weights and of what the optimizer remembers of them."""
        return 4 * shape.weights() * (1 + _SLOTS[shape.optimizer])

    def _signature(self) -> list[Any]:
        real, whole = tf.TensorSpec((), tf.float32), tf.TensorSpec((), tf.int32)
        images = tf.TensorSpec((None, *self.windows.shape), tf.uint8)
        labels = tf.TensorSpec((None,), tf.uint8)
        rates, totals = Rates(*[real] * len(Rates._fields)), Totals(tf.TensorSpec((), tf.float64), whole)
        return [images, labels, whole, rates, totals, tf.TensorSpec((1,), tf.uint64)]

    def reset(self, seed: int) -> None:
        """Start anew, whatever was trained before: weights from the seed, the optimizer's state empty."""
        self._restart()
        for weight, value in zip(self._all(), initial_weights(self.shape, seed), strict=True):
            weight.value.assign(value)

    def _all(self) -> list[_Weight]:
        return [*self.convolutions, *self.dense, *self.head]

    def _empty(self) -> None:
        # Keras adds Adagrad's epsilon under the root, the fused kernel has none: it goes into the sum from the start.
        empty = 0.1 + 1e-7 if self.shape.optimizer == "adagrad" else 0.0
        for slot in [slot for weight in self._all() for slot in weight.slots]:
            slot.assign(tf.fill(slot.shape, empty))
        self.step.assign(0)
        self.momentum_product.assign(1.0)

    def weights(self) -> list[np.ndarray]:
        """The weights as `keras.Model.get_weights` would order and lay them out."""
        dense = np.concatenate([block.value.numpy() for block in self.dense]).T
        convolutions, head = ([w.value.numpy() for w in part] for part in (self.convolutions, self.head))
        return [*convolutions, dense, *head]

    def _features(self, images: Tensor, scale: Tensor) -> Tensor:
        """Bytes (n, rows, columns, pixels) to what the dense layer takes, (n, inputs)."""
        kernel, bias, *others = (weight.value for weight in self.convolutions)
        x = _convolve_windows(tf.cast(images, tf.float32) / scale, kernel, bias, self.shape.activation)
        for kernel, bias in zip(others[::2], others[1::2], strict=True):
            x = _convolve(x, kernel, bias, self.shape.activation)
        return tf.reshape(x, (-1, self.dense[0].value.shape[1]))

    def _sums(self, features: Tensor) -> Tensor:
        """The dense layer's products, (n, neurons), before bias and activation."""
        return tf.transpose(tf.concat([tf.matmul(block.value, features, transpose_b=True) for block in self.dense], 0))

    def _logits(self, sums: Tensor, rates: Rates, draw: Tensor | None) -> Tensor:
        """Scores (n, classes); `draw`, uniform in [0, 1), drops out while training."""
        bias, last, last_bias = (weight.value for weight in self.head)
        x = _ACTIVATIONS[self.shape.activation](tf.nn.bias_add(sums, bias))
        if draw is not None:
            x = tf.where(draw >= rates.dropout_rate, x * rates.dropout_scale, 0.0)
        return tf.nn.bias_add(tf.matmul(x, last), last_bias)

    def _penalty(self, rates: Rates) -> Tensor:
        if not self.shape.penalty:
            return tf.constant(0.0)
        kernels = [block.value for block in self.dense]
        absolute, squares = (tf.add_n([tf.reduce_sum(f(k)) for k in kernels]) for f in (tf.abs, tf.square))
        # What is not asked for adds nothing, though its sum may be infinite.
        return tf.math.multiply_no_nan(absolute, rates.l1) + tf.math.multiply_no_nan(squares, rates.l2)

    def _train(
        self, images: Tensor, labels: Tensor, batch: Tensor, rates: Rates, totals: Totals, seed: Tensor
    ) -> Totals:
        """Train on the images in their order, `batch` of them a step, the last step on what is left; add to `totals`.

        `images`, uint8 (n, rows, columns, pixels), are laid out as `windows` says.
        """

        return _each_batch(lambda pixels, truth: self._step(pixels, truth, rates, seed), images, labels, batch, totals)

    def _score(self, images: Tensor, labels: Tensor, batch: Tensor, rates: Rates, totals: Totals) -> Totals:
        """Score images laid out as for training, `batch` of them at a time; add to `totals`."""
        penalty = self._penalty(rates)

        def one(pixels: Tensor, truth: Tensor) -> Totals:
            logits = self._logits(self._sums(self._features(pixels, rates.scale)), rates, None)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(truth, logits)
            return Totals(tf.reduce_sum(losses + penalty), _correct(logits, truth))

        return _each_batch(one, images, labels, batch, totals)

    def _step(self, images: Tensor, labels: Tensor, rates: Rates, seed: Tensor) -> Totals:
        step = self.step.assign_add(1)
        size = tf.shape(labels)[0]
        draw = self._draw(size, seed, step) if self.shape.dropout else None
        update = _updater(self.shape, tf.cast(step, tf.float32), rates, self.momentum_product)
        with tf.GradientTape() as below:
            features = self._features(images, rates.scale)
        sums = self._sums(features)
        with tf.GradientTape() as above:
            above.watch(sums)
            logits = self._logits(sums, rates, draw)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        total = (loss + self._penalty(rates)) * tf.cast(size, tf.float32)
        upstream, *gradients = above.gradient(loss, [sums, *(weight.value for weight in self.head)])
        _apply(update, self.head, gradients)
        upstream = self._train_dense(features, upstream, rates, update)
        variables = [weight.value for weight in self.convolutions]
        _apply(update, self.convolutions, below.gradient(features, variables, output_gradients=upstream))
        return Totals(total, _correct(logits, labels))

    def _draw(self, size: Tensor, seed: Tensor, step: Tensor) -> Tensor:
        counter = tf.stack([tf.constant(0, tf.uint64), tf.cast(step, tf.uint64)])
        return tf.raw_ops.StatelessRandomUniformV2(
            shape=[size, self.shape.num_neurons], key=seed, counter=counter, alg=1, dtype=tf.float32
        )

    def _train_dense(self, features: Tensor, upstream: Tensor, rates: Rates, update: "_Update") -> Tensor:
        """Train the dense kernel block by block; gives the gradient with respect to the features, (n, inputs)."""
        passed_on: list[Tensor] = []
        previous: list[Any] = [upstream]
        for block, part in zip(self.dense, tf.split(tf.transpose(upstream), self.shape.dense_blocks()), strict=True):
            with tf.control_dependencies(previous):
                passed_on.append(tf.matmul(part, block.value, transpose_a=True))
                gradient = tf.matmul(part, features)
            if self.shape.penalty:
                gradient += rates.l1 * tf.sign(block.value) + 2.0 * rates.l2 * block.value
            # The weight is free to change in place once the last that reads it is done; else TensorFlow copies it.
            with tf.control_dependencies([passed_on[-1], gradient]):
                previous = [update(block, gradient)]
        return tf.add_n(passed_on)


def _each_batch(
    one: Callable[[Tensor, Tensor], Totals], images: Tensor, labels: Tensor, batch: Tensor, totals: Totals
) -> Totals:
    count, size = tf.size(labels), images.shape[1:].num_elements()
    flat = tf.reshape(images, (-1,))  # TensorFlow slices one dimension without copying, several only by chance.

    def body(start: Tensor, so_far: Totals) -> tuple[Tensor, Totals]:
        end = tf.minimum(start + batch, count)
        pixels = tf.reshape(flat[start * size : end * size], (-1, *images.shape[1:]))
        more = one(pixels, tf.cast(labels[start:end], tf.int32))
        return start + batch, Totals(so_far.loss + tf.cast(more.loss, tf.float64), so_far.correct + more.correct)

    first = (tf.constant(0), totals)
    summed: Totals = tf.while_loop(lambda start, _: start < count, body, first, parallel_iterations=1)[1]
    return summed


def _correct(logits: Tensor, labels: Tensor) -> Tensor:
    # Of the probabilities, as in Keras: a row with a logit that is not finite is NaN throughout, and of class 0.
    guesses = tf.argmax(tf.nn.softmax(logits), 1, output_type=tf.int32)
    return tf.reduce_sum(tf.cast(tf.equal(guesses, labels), tf.int32))


def _convolve_windows(x: Tensor, kernel: Tensor, bias: Tensor, activation: str) -> Tensor:
    """The first convolution, activated and pooled, (n, rows, columns, pixels) to (n, rows, columns, filters).

    A window holds the pixels of four convolutions, each by the kernel with a margin of zeros: as matrix products
    they take half the time of a convolution and its pooling, though these multiply less. The larger of two products
    is the one and what of their difference is positive, itself a product: so most of its gradient costs nothing.
    """
    (_, *places, pixels), filters, act = x.shape, kernel.shape[-1], _ACTIVATIONS[activation]
    side = kernel.shape[0] + 1
    pixel = np.eye(pixels, dtype=np.float32).reshape(side, side, pixels)
    inside = [pixel[top : top + side - 1, left : left + side - 1] for top in (0, 1) for left in (0, 1)]
    one, two, three, four = (part.reshape(-1, pixels).T for part in inside)
    x = tf.reshape(x, (-1, pixels))

    def product(margins: np.ndarray) -> Tensor:
        return tf.matmul(x, tf.matmul(margins, tf.reshape(kernel, (-1, filters))))

    if activation == "gelu":
        activated = [act(tf.nn.bias_add(product(margins), bias)) for margins in (one, two, three, four)]
        pooled = _larger(_larger(activated[0], activated[1]), _larger(activated[2], activated[3]))
    else:
        above = product(one) + tf.nn.relu(product(two - one))
        below = product(three) + tf.nn.relu(product(four - three))
        pooled = act(tf.nn.bias_add(_larger(above, below), bias))
    return tf.reshape(pooled, (-1, *places, filters))


def _larger(first: Tensor, second: Tensor) -> Tensor:
    """The larger of two values; the gradient goes to the first of equals, as max-pooling's does."""
    # Not by tf.custom_gradient, which would keep every graph, and with it the weights, for ever.
    return tf.raw_ops.Select(condition=first >= second, x=first, y=second)


def _convolve(x: Tensor, kernel: Tensor, bias: Tensor, activation: str) -> Tensor:
    x = tf.nn.conv2d(x, kernel, 1, "VALID")
    if activation == "gelu":
        return tf.nn.max_pool2d(_ACTIVATIONS[activation](tf.nn.bias_add(x, bias)), 2, 2, "VALID")
    # The maximum commutes with what never falls: the same values from a quarter of the work.
    return _ACTIVATIONS[activation](tf.nn.bias_add(tf.nn.max_pool2d(x, 2, 2, "VALID"), bias))


_Update = Callable[[_Weight, Tensor], Any]


def _apply(update: _Update, weights: list[_Weight], gradients: list[Tensor]) -> None:
    with tf.control_dependencies(gradients):
        for weight, gradient in zip(weights, gradients, strict=True):
            update(weight, gradient)


def _updater(shape: Architecture, step: Tensor, rates: Rates, momentum_product: Any) -> _Update:
    """What updates one weight by its gradient, by the equations of keras.optimizers, version 3."""
    fused = _fused(shape, step, rates, momentum_product)

    def update(weight: _Weight, gradient: Tensor) -> Any:
        if shape.weight_decay:
            weight.value.assign_sub(weight.value * rates.weight_decay * rates.learning_rate)
        return fused(weight.value.handle, [slot.handle for slot in weight.slots], gradient)

    return update


def _fused(shape: Architecture, step: Tensor, rates: Rates, momentum_product: Any) -> Callable[..., Any]:
    """TensorFlow's kernel for the optimizer, a function of a weight's handle, its slots' handles and its gradient."""
    raw, rate = tf.raw_ops, rates.learning_rate
    if shape.optimizer == "nadam":
        return _nadam(step, rate, momentum_product)
    if shape.optimizer in ("adam", "adamw"):
        powers = {"beta1_power": tf.pow(0.9, step), "beta2_power": tf.pow(0.999, step)}
        fixed = {"lr": rate, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-7}
        return lambda w, s, g: raw.ResourceApplyAdam(var=w, m=s[0], v=s[1], grad=g, **powers, **fixed)
    if shape.optimizer == "rmsprop":
        fixed = {"lr": rate, "rho": 0.9, "momentum": rates.momentum, "epsilon": 1e-7}
        return lambda w, s, g: raw.ResourceApplyRMSProp(var=w, ms=s[0], mom=s[1], grad=g, **fixed)
    if shape.optimizer == "adagrad":
        return lambda w, s, g: raw.ResourceApplyAdagrad(var=w, accum=s[0], lr=rate, grad=g)
    if shape.momentum:
        fixed = {"lr": rate, "momentum": rates.momentum}
        return lambda w, s, g: raw.ResourceApplyKerasMomentum(var=w, accum=s[0], grad=g, **fixed)
    return lambda w, s, g: raw.ResourceApplyGradientDescent(var=w, alpha=rate, delta=g)


def _nadam(step: Tensor, rate: Tensor, momentum_product: Any) -> Callable[..., Any]:
    """Nesterov's Adam (Dozat, 2016) as two runs of Adam's kernel: by the momentum, then by the gradient alone."""
    now, after = (0.9 * (1.0 - 0.5 * tf.pow(0.96, step + ahead)) for ahead in (0.0, 1.0))
    product = momentum_product.assign(momentum_product * now)
    root = tf.sqrt(1.0 - tf.pow(0.999, step))
    by_momentum = rate * root * after / (1.0 - product * after)
    by_gradient = rate * root * (1.0 - now) / (1.0 - product)
    fixed = {"beta1_power": 0.0, "beta2_power": 0.0, "epsilon": 1e-7 * root}

    def update(w: Tensor, s: list[Tensor], g: Tensor) -> Any:
        tf.raw_ops.ResourceApplyAdam(var=w, m=s[0], v=s[1], grad=g, lr=by_momentum, beta1=0.9, beta2=0.999, **fixed)
        # With beta1 0 and beta2 1 the "momentum" is the gradient itself and the second moment stays.
        return tf.raw_ops.ResourceApplyAdam(
            var=w, m=s[2], v=s[1], grad=g, lr=by_gradient, beta1=0.0, beta2=1.0, **fixed
        )

    return update
