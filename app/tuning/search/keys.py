"""What a fit's result depends on: the seed, and a key that equal fits share."""

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from app.tuning.search.models import Training, Value
from app.tuning.search.own_networks import OwnNetwork
from app.tuning.search.spec import CrossValidation, JobSpec

MACHINE = ("dataset_sha256", "tensorflow", "scikit_learn", "processor")  # what of an environment bits depend on


def derive_seed(spec: JobSpec, fold: int | None) -> int:
    """A fit's seed, from the job's `random_state` and the fold alone: the same on every attempt and worker."""
    if spec.model_class.seed_is_random_state and (fold is None or fold * spec.repeats < spec.folds):
        return spec.random_state
    return _derive_seed(spec.random_state, 0 if fold is None else fold + 1)


@lru_cache(maxsize=128)
def _derive_seed(random_state: int, stream: int) -> int:
    return int(np.random.SeedSequence([random_state, stream]).generate_state(1)[0] >> 1)


def make_key(
    spec: JobSpec,
    hyperparameters: Mapping[str, Value],
    fold: int | None,
    n_resources: int | None,
    environment: Mapping[str, str],
) -> str:
    """SHA-256 of all that a fit's result depends on, but for the number of epochs of one that is scored after each.

    `hyperparameters` are complete, `fold` is None for the refit, and `n_resources` are those of the fit's rung.
    """
    parts: dict[str, Any] = {"model": spec.model, "train_samples": spec.train_samples, "seed": derive_seed(spec, fold)}
    parts |= {name: environment[name] for name in ("dataset_sha256", spec.model_class.library, "processor")}
    if spec.scoring != "accuracy":  # so that keys of older versions still hold
        parts["scoring"] = spec.scoring
    parts |= {"revision": spec.model_class.revision, "hyperparameters": {**hyperparameters}}
    if issubclass(spec.model_class, OwnNetwork):
        parts |= _describe_network(spec.model_class, hyperparameters)
    if fold is None:
        parts["test_samples"] = spec.test_samples
    else:
        parts["hyperparameters"].pop("epochs", None)
        if isinstance(spec.evaluation, CrossValidation):
            parts |= {"cv": spec.evaluation.cv, "fold": fold % spec.evaluation.cv}
        else:
            parts["validation_split"] = spec.evaluation.validation_split
        if spec.resource == "n_samples":
            parts |= {"n_samples": n_resources, "random_state": spec.random_state}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _describe_network(model: type[OwnNetwork], hyperparameters: Mapping[str, Value]) -> dict[str, Any]:
    """The network as it is built: equal ones share a key, whatever their hyperparameters are called."""
    layers = model.model_validate(dict(hyperparameters)).list_layers(())
    training = {name: value for name, value in hyperparameters.items() if name in Training.model_fields}
    return {"model": [layer.model_dump() for layer in layers], "hyperparameters": training}
