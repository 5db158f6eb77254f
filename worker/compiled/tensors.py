"""The ground of the compiled network: TensorFlow and its configuration, activations, rates and weights."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# oneDNN multiplies the thin matrices of small batches up to twice as fast; TensorFlow leaves it off on many CPUs.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

from collections.abc import Callable
from typing import Any, NamedTuple

from app.tuning.logs import log_native_stderr

with log_native_stderr():
    import tensorflow

tf: Any = tensorflow  # Untyped. The only import of TensorFlow, so that the environment above is set before it.
Tensor = Any
TENSORFLOW_VERSION: str = tf.__version__

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": tf.nn.relu,
    "elu": tf.nn.elu,
    "tanh": tf.nn.tanh,
    "gelu": lambda x: tf.nn.gelu(x, approximate=False),
    "linear": lambda x: x,
    "sigmoid": tf.sigmoid,
    "silu": lambda x: x * tf.sigmoid(x),  # tf.nn.silu keeps every graph alive: it has a gradient of its own
}


def configure_tensorflow() -> None:
    """Make TensorFlow deterministic, single-threaded and sparing with a GPU's memory; call before its first use."""
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)
        # Only with a GPU: a single CPU thread is deterministic by itself, and its ordinary kernels are faster.
        tf.config.experimental.enable_op_determinism()


def to_tensor(values: Any, kind: str | None = None) -> Tensor:
    """A copy of the values as a tensor; `kind` is a dtype's name, by default that of the values."""
    return tf.constant(values, kind)


class Rates(NamedTuple):
    """The graph's arguments, float32: hyperparameters, and `scale`, the largest pixel value.

    Scalars; of a list of layers, those of dropout and penalties are vectors with one value for each layer that has any.
    """

    scale: Any
    dropout_scale: Any  # 1 / (1 - dropout_rate), computed in float64: float32 rounds a rate of 0.99999999 to 1
    learning_rate: Any
    dropout_rate: Any
    momentum: Any
    weight_decay: Any
    l1: Any
    l2: Any


def draw_for_dropout(shape: list[Any], key: Tensor, layer: int, step: Tensor) -> Tensor:
    """Numbers uniform in [0, 1), which depend on the arguments alone; `key` is uint64 (1,), `step` int64."""
    # A layer's counter begins far beyond the last number of the one before.
    counter = tf.stack([tf.constant(layer << 40, tf.uint64), tf.cast(step, tf.uint64)])
    return tf.raw_ops.StatelessRandomUniformV2(shape=shape, key=key, counter=counter, alg=1, dtype=tf.float32)


class Weight:
    """A variable and the optimizer's slots for it."""

    def __init__(self, size: tuple[int, ...], slots: int) -> None:
        self.value = tf.Variable(tf.zeros(size))
        self.slots = [tf.Variable(tf.zeros(size)) for _ in range(slots)]
