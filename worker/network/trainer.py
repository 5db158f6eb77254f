"""Trains networks that are lists of layers: what determines a fit's program, and what it is called with."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from sklearn.preprocessing import StandardScaler

from app.tuning.search.models import Model, Shape
from app.tuning.search.networks import list_layers
from worker.compiled import tensors
from worker.compiled.state import Checkpoints
from worker.compiled.trainer import Prepared, run_fit
from worker.network.architecture import NetworkArchitecture, list_rates, strip_rates
from worker.network.program import NetworkProgram
from worker.training import OnEpoch, Report, Scores, Split

_Values = Mapping[str, int | float | str]


def train_layers(
    model: type[Model],
    hyperparameters: _Values,
    split: Split,
    seed: int,
    report: Report,
    on_epoch: OnEpoch,
    checkpoints: Checkpoints | None = None,
) -> Scores:
    """Train a network of this model on images or tables and score it, as `run_fit` says.

    Tables are standardized by the rows that the fit trains on.

    Raises ValueError if the network cannot be built, and whatever `report` or `on_epoch` raise.
    """
    prepared = prepare_network(model, hyperparameters, split)
    return run_fit(prepared, hyperparameters, split, seed, report, on_epoch, checkpoints)


def prepare_network(model: type[Model], hyperparameters: _Values, split: Split) -> Prepared:
    """The program of a fit, and what it is called with."""
    h, shape = hyperparameters, find_shape(split.images)
    network = model.model_validate(dict(h))
    layers = list_layers(network, shape)
    architecture = NetworkArchitecture(
        layers=strip_rates(layers),
        shape=shape,
        classes=split.classes,
        optimizer=str(h["optimizer"]),
        momentum=float(h["momentum"]) > 0,
        weight_decay=float(h["weight_decay"]) > 0,
        weighted=h.get("class_weight") == "balanced",
    )
    rates = list_rates(layers)
    made: dict[str, Any] = {name: float(h[name]) for name in ("learning_rate", "momentum", "weight_decay")}
    made |= {"scale": split.scale, "dropout_rate": rates.dropout, "l1": rates.l1, "l2": rates.l2}
    made["dropout_scale"] = [1.0 / (1.0 - rate) for rate in rates.dropout]
    called = tensors.Rates(**{name: tensors.to_tensor(value, "float32") for name, value in made.items()})
    return Prepared(architecture, lambda: NetworkProgram(architecture), called, _make_prepare(shape, split), network)


def find_shape(samples: np.ndarray) -> Shape:
    """Of one sample: grey images have one channel."""
    shape = samples.shape[1:]
    return (*shape, 1) if len(shape) == 2 else shape


def _make_prepare(shape: Shape, split: Split) -> Callable[[np.ndarray], np.ndarray]:
    if len(shape) == 3:
        return lambda images: images.reshape(-1, *shape)
    scaler = StandardScaler().fit(split.images[split.rows])

    def standardize(rows: np.ndarray) -> np.ndarray:
        standardized: np.ndarray = scaler.transform(rows).astype(np.float32)
        return standardized

    return standardize
