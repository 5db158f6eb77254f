"""Trains the example's network on grey images: what determines its program, and what it is called with."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from app.tuning.search.models import Cnn
from worker.cnn.architecture import Architecture
from worker.cnn.program import CnnProgram
from worker.compiled import tensors
from worker.compiled.state import Checkpoints
from worker.compiled.trainer import Prepared, run_fit
from worker.training import OnEpoch, Report, Scores, Split


def train_network(
    hyperparameters: Mapping[str, int | float | str],
    split: Split,
    seed: int,
    report: Report,
    on_epoch: OnEpoch,
    checkpoints: Checkpoints | None = None,
) -> Scores:
    """Train one network on grey images, (n, height, width), and score it, as `run_fit` says.

    Raises ValueError if the image is too small for the convolutions, and whatever `report` or `on_epoch` raise.
    """
    shape = _make_architecture(hyperparameters, split)
    windows = shape.windows()

    def prepare(images: np.ndarray) -> np.ndarray:
        return np.take(images.reshape(len(images), -1), windows, axis=1)

    values: dict[str, Any] = {**hyperparameters}
    rates = _make_rates(hyperparameters, split.scale)
    prepared = Prepared(shape, lambda: CnnProgram(shape), rates, prepare, Cnn.model_construct(**values))
    return run_fit(prepared, hyperparameters, split, seed, report, on_epoch, checkpoints)


def _make_architecture(hyperparameters: Mapping[str, int | float | str], split: Split) -> Architecture:
    h = hyperparameters
    whole = {name: int(h[name]) for name in ("conv_blocks", "filters", "kernel_size", "num_neurons")}
    return Architecture(
        height=split.images.shape[1],
        width=split.images.shape[2],
        classes=split.classes,
        **whole,
        activation=str(h["activation"]),
        optimizer=str(h["optimizer"]),
        momentum=float(h["momentum"]) > 0,
        weight_decay=float(h["weight_decay"]) > 0,
        penalty=float(h["l1"]) > 0 or float(h["l2"]) > 0,
        dropout=float(h["dropout_rate"]) > 0,
        weighted=h.get("class_weight") == "balanced",
    )


def _make_rates(hyperparameters: Mapping[str, int | float | str], scale: float) -> tensors.Rates:
    made = {"scale": scale, "dropout_scale": 1.0 / (1.0 - float(hyperparameters["dropout_rate"]))}
    values = ({**hyperparameters, **made}[name] for name in tensors.Rates._fields)
    return tensors.Rates(*(tensors.to_tensor(value, "float32") for value in values))
