"""The compiled part of training: one graph per architecture, which runs many steps a call."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# oneDNN multiplies the thin matrices of small batches up to twice as fast; TensorFlow leaves it off on many CPUs.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

TENSORFLOW_VERSION: str = tf.__version__
Tensor = Any  # TensorFlow ships no types.

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": tf.nn.relu,
    "elu": tf.nn.elu,
    "tanh": tf.nn.tanh,
    "gelu": lambda x: tf.nn.gelu(x, approximate=False),
}
_SLOTS = {"adam": 2, "adamw": 2, "nadam": 3, "rmsprop": 2, "adagrad": 1, "sgd": 1}


def prepare() -> None:
    """Make TensorFlow deterministic, one thread a process, modest with a GPU's memory; call before its first use."""
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)
        # One thread of a CPU is deterministic by itself, and its ordinary kernels are the faster ones.
        tf.config.experimental.enable_op_determinism()


class Shape(NamedTuple):
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

    def score_batch(self) -> int:
        """Images scored at a time: as many as keep the first feature map within 32 MB."""
        side = (self.height - self.kernel_size + 1) * (self.width - self.kernel_size + 1)
        return int(np.clip(2**23 // (side * self.filters), 1, 1024))


class Rates(NamedTuple):
    """What the graph takes as arguments, float32 each: `scale` is the largest pixel, the others are hyperparameters."""

    scale: float
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


def on_device(values: Any, kind: str) -> Tensor:
    """A copy of the values as TensorFlow holds them; `kind` is a dtype's name."""
    return tf.constant(values, kind)


def initial_weights(shape: Shape, seed: int) -> Iterator[np.ndarray]:
    """Keras's defaults, kernel and bias in turn: Glorot's uniform (Glorot and Bengio, 2010) and zeros."""
    random = np.random.Generator(np.random.SFC64([seed, 0]))
    for kernel in shape.kernels():
        field = int(np.prod(kernel[:-2]))
        limit = np.sqrt(6.0 / (field * (kernel[-2] + kernel[-1])))
        yield random.uniform(-limit, limit, kernel).astype(np.float32)
        yield np.zeros(kernel[-1], np.float32)


class Program:
    """One architecture's weights, its optimizer's slots, and the two graphs that train and score them."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        kernels = shape.kernels()
        sizes = [size for kernel in kernels for size in (kernel, kernel[-1:])]
        self.weights = [tf.Variable(tf.zeros(size)) for size in sizes]
        self.slots = [[tf.Variable(tf.zeros(size)) for _ in range(_SLOTS[shape.optimizer])] for size in sizes]
        self.step = tf.Variable(0, dtype=tf.int64)
        self.momentum_product = tf.Variable(1.0)
        real, whole = tf.TensorSpec((), tf.float32), tf.TensorSpec((), tf.int32)
        images = tf.TensorSpec((None, shape.height, shape.width), tf.uint8)
        labels, rows = tf.TensorSpec((None,), tf.uint8), tf.TensorSpec((None,), tf.int32)
        common = [
            images,
            labels,
            rows,
            whole,
            Rates(*[real] * len(Rates._fields)),
            Totals(tf.TensorSpec((), tf.float64), whole),
        ]
        seed = tf.TensorSpec((1,), tf.uint64)
        self.train: Callable[..., Totals] = tf.function(self._train, [*common, seed], autograph=False)
        self.score: Callable[..., Totals] = tf.function(self._score, common, autograph=False)

    def reset(self, seed: int) -> None:
        """Start anew, whatever was trained before: weights from the seed, the optimizer's state empty."""
        # Keras adds Adagrad's epsilon under the root, the fused kernel has none: it goes into the sum from the start.
        empty = 0.1 + 1e-7 if self.shape.optimizer == "adagrad" else 0.0
        for weight, slots, value in zip(self.weights, self.slots, initial_weights(self.shape, seed), strict=True):
            weight.assign(value)
            for slot in slots:
                slot.assign(tf.fill(slot.shape, empty))
        self.step.assign(0)
        self.momentum_product.assign(1.0)

    def _logits(self, images: Tensor, rates: Rates, draw: Tensor | None) -> Tensor:
        """Bytes (n, height, width) to scores (n, classes); `draw`, uniform in [0, 1), drops out while training."""
        activation = _ACTIVATIONS[self.shape.activation]
        x = tf.cast(images[..., None], tf.float32) / rates.scale
        *convolutions, kernel, bias, last_kernel, last_bias = self.weights
        for index in range(0, len(convolutions), 2):
            x = self._block(x, convolutions[index], convolutions[index + 1], activation)
        x = tf.reshape(x, (-1, kernel.shape[0]))
        x = activation(tf.nn.bias_add(_dense(x, kernel), bias))
        if draw is not None:
            keep = tf.cast(draw >= rates.dropout_rate, tf.float32)
            x = x * (keep / (1.0 - rates.dropout_rate))
        return tf.nn.bias_add(tf.matmul(x, last_kernel), last_bias)

    def _block(self, x: Tensor, kernel: Tensor, bias: Tensor, activation: Callable[[Tensor], Tensor]) -> Tensor:
        x = tf.nn.conv2d(x, kernel, 1, "VALID")
        if self.shape.activation == "gelu":
            return tf.nn.max_pool2d(activation(tf.nn.bias_add(x, bias)), 2, 2, "VALID")
        # The maximum commutes with what never falls: the same values from a quarter of the work.
        return activation(tf.nn.bias_add(tf.nn.max_pool2d(x, 2, 2, "VALID"), bias))

    def _penalty(self, rates: Rates) -> Tensor:
        if not self.shape.penalty:
            return tf.constant(0.0)
        kernel = self.weights[-4]
        return rates.l1 * tf.reduce_sum(tf.abs(kernel)) + rates.l2 * tf.reduce_sum(tf.square(kernel))

    def _train(
        self, images: Tensor, labels: Tensor, rows: Tensor, batch: Tensor, rates: Rates, totals: Totals, seed: Tensor
    ) -> Totals:
        """Train on `rows` in their order, `batch` rows a step, the last step on what is left; add to `totals`."""

        def one(pixels: Tensor, truth: Tensor) -> Totals:
            return self._step(pixels, truth, rates, seed)

        return _each_batch(one, images, labels, rows, batch, totals)

    def _score(
        self, images: Tensor, labels: Tensor, rows: Tensor, batch: Tensor, rates: Rates, totals: Totals
    ) -> Totals:
        """Score `rows`, `batch` of them at a time; add to `totals`."""
        penalty = self._penalty(rates)

        def one(pixels: Tensor, truth: Tensor) -> Totals:
            logits = self._logits(pixels, rates, None)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(truth, logits)
            return Totals(tf.reduce_sum(losses + penalty), _correct(logits, truth))

        return _each_batch(one, images, labels, rows, batch, totals)

    def _step(self, images: Tensor, labels: Tensor, rates: Rates, seed: Tensor) -> Totals:
        step = self.step.assign_add(1)
        size = tf.shape(labels)[0]
        draw = self._draw(size, seed, step) if self.shape.dropout else None
        with tf.GradientTape() as tape:
            logits = self._logits(images, rates, draw)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)) + self._penalty(rates)
        gradients = tape.gradient(loss, self.weights)
        # Updating before the last reader of a weight is done would make TensorFlow copy the weight.
        with tf.control_dependencies(gradients):
            self._update(gradients, tf.cast(step, tf.float32), rates)
        return Totals(loss * tf.cast(size, tf.float32), _correct(logits, labels))

    def _draw(self, size: Tensor, seed: Tensor, step: Tensor) -> Tensor:
        counter = tf.stack([tf.constant(0, tf.uint64), tf.cast(step, tf.uint64)])
        return tf.raw_ops.StatelessRandomUniformV2(
            shape=[size, self.shape.num_neurons], key=seed, counter=counter, alg=1, dtype=tf.float32
        )

    def _update(self, gradients: list[Tensor], step: Tensor, rates: Rates) -> None:
        update = _updater(self.shape, step, rates, self.momentum_product)
        for weight, slots, gradient in zip(self.weights, self.slots, gradients, strict=True):
            if self.shape.weight_decay:
                weight.assign_sub(weight * rates.weight_decay * rates.learning_rate)
            update(weight.handle, [slot.handle for slot in slots], gradient)


def _each_batch(
    one: Callable[[Tensor, Tensor], Totals], images: Tensor, labels: Tensor, rows: Tensor, batch: Tensor, totals: Totals
) -> Totals:
    count = tf.size(rows)

    def body(start: Tensor, so_far: Totals) -> tuple[Tensor, Totals]:
        taken = rows[start : tf.minimum(start + batch, count)]
        more = one(tf.gather(images, taken), tf.cast(tf.gather(labels, taken), tf.int32))
        loss = so_far.loss + tf.cast(more.loss, tf.float64)
        return start + batch, Totals(loss, so_far.correct + more.correct)

    first = (tf.constant(0), totals)
    summed: Totals = tf.while_loop(lambda start, _: start < count, body, first, parallel_iterations=1)[1]
    return summed


def _correct(logits: Tensor, labels: Tensor) -> Tensor:
    guesses = tf.argmax(logits, 1, output_type=tf.int32)
    return tf.reduce_sum(tf.cast(tf.equal(guesses, labels), tf.int32))


@tf.custom_gradient  # type: ignore[untyped-decorator]
def _dense(x: Tensor, kernel: Tensor) -> tuple[Tensor, Callable[..., tuple[Tensor, Tensor]]]:
    """A product whose gradients are asked for in the order that runs fastest."""

    def gradient(upstream: Tensor, variables: object = None) -> tuple[Tensor, Tensor]:
        return tf.matmul(upstream, kernel, transpose_b=True), tf.matmul(x, upstream, transpose_a=True)

    return tf.matmul(x, kernel), gradient


_Update = Callable[[Tensor, list[Tensor], Tensor], None]


def _updater(shape: Shape, step: Tensor, rates: Rates, momentum_product: Any) -> _Update:
    """Keras's equations (keras.optimizers, version 3) for one weight's handle, its slots' handles and its gradient."""
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
        return lambda w, s, g: raw.ResourceApplyKerasMomentum(
            var=w, accum=s[0], lr=rate, grad=g, momentum=rates.momentum
        )
    return lambda w, s, g: raw.ResourceApplyGradientDescent(var=w, alpha=rate, delta=g)


def _nadam(step: Tensor, rate: Tensor, momentum_product: Any) -> _Update:
    """Nesterov's Adam (Dozat, 2015) as two runs of Adam's kernel: by the momentum, then by the gradient alone."""
    now, after = (0.9 * (1.0 - 0.5 * tf.pow(0.96, step + ahead)) for ahead in (0.0, 1.0))
    product = momentum_product.assign(momentum_product * now)
    root = tf.sqrt(1.0 - tf.pow(0.999, step))
    by_momentum = rate * root * after / (1.0 - product * after)
    by_gradient = rate * root * (1.0 - now) / (1.0 - product)
    fixed = {"beta1_power": 0.0, "beta2_power": 0.0, "epsilon": 1e-7 * root}

    def update(weight: Tensor, slots: list[Tensor], gradient: Tensor) -> None:
        for lr, first, betas in ((by_momentum, slots[0], (0.9, 0.999)), (by_gradient, slots[2], (0.0, 1.0))):
            tf.raw_ops.ResourceApplyAdam(
                var=weight, m=first, v=slots[1], grad=gradient, lr=lr, beta1=betas[0], beta2=betas[1], **fixed
            )

    return update
