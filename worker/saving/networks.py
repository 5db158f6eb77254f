"""A trained network as a Keras model that takes raw samples and needs nothing of ours to be loaded."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.preprocessing import StandardScaler

from app.tuning.saved_models import ModelInput
from app.tuning.search.models import Model, Shape
from worker.compiled.tensors import Tensor, tf
from worker.network.export import Front, export_network
from worker.saving.onnx import write_onnx
from worker.training import Exported, Split

PREDICTED = 1024  # samples at a time


def write_network(model: Model, list_weights: Callable[[], list[np.ndarray]], split: Split, folder: Path) -> Exported:
    """Write a network and its weights into a folder; `list_weights` is a `Program.weights`."""
    shape = (*split.images.shape[1:], *([1] if split.images.ndim == 3 else []))
    front = _scale_images(shape, split) if len(shape) == 3 else _standardize(shape, split)
    network = export_network(model, shape, split.classes, list_weights(), front)
    network.save(folder / "model.keras")
    samples = partial(_take_samples, split, shape)
    parts = [network(samples(rows), training=False).numpy() for rows in _batches(split.score_rows)]
    formats, left_out = ["keras"], {}
    if reason := write_onnx(folder / "model.onnx", partial(_convert, network), samples, split, np.concatenate(parts)):
        left_out["onnx"] = reason
    else:
        formats.append("onnx")
    return Exported(formats, left_out, _describe_input(shape, split), "probabilities" if split.classes else "number")


def _scale_images(shape: Shape, split: Split) -> Front:
    pixels = tf.keras.Input(shape, dtype="uint8", name="samples")
    return Front(pixels, tf.keras.layers.Rescaling(1.0 / split.scale)(pixels))


def _standardize(shape: Shape, split: Split) -> Front:
    """As the rows that it was trained on were, in float64."""
    scaler = StandardScaler().fit(split.images[split.rows])
    means, variances = scaler.mean_.tolist(), np.square(scaler.scale_).tolist()
    columns = tf.keras.Input(shape, dtype="float64", name="samples")
    layer = tf.keras.layers.Normalization(mean=means, variance=variances, dtype="float64")
    return Front(columns, layer(columns))


def _batches(rows: np.ndarray) -> list[np.ndarray]:
    return [rows[start : start + PREDICTED] for start in range(0, len(rows), PREDICTED)]


def _take_samples(split: Split, shape: Shape, rows: np.ndarray) -> np.ndarray:
    samples: np.ndarray = split.score_images[rows].reshape(-1, *shape)
    return samples


def _convert(network: Any, file: Path) -> None:
    """Write the network as ONNX; it is changed by that."""
    for layer in network.layers:
        if getattr(layer, "activation", None) is tf.keras.activations.gelu:
            layer.activation = _gelu  # tf2onnx 1.17 does not know what TensorFlow 2.21 makes of Keras's
    network.export(file, format="onnx", verbose=False)


def _gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1.0 + tf.math.erf(x / np.float32(np.sqrt(2.0))))


def _describe_input(shape: Shape, split: Split) -> ModelInput:
    if len(shape) == 1:
        return {"shape": list(shape), "dtype": "float64", "scaling": "raw columns: the model standardizes them"}
    scaling = f"raw pixels, 0 to {split.scale:g}: the model divides them"
    return {"shape": list(shape), "dtype": "uint8", "scaling": scaling}
