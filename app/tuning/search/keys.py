"""What a fit's result depends on: the seed, and a key that equal fits share."""

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from app.tuning.search.models import Value
from app.tuning.search.registry import MODELS
from app.tuning.search.spec import CrossValidation, JobSpec

MACHINE = ("dataset_sha256", "tensorflow", "scikit_learn", "processor")  # what of an environment bits depend on


def derive_seed(spec: JobSpec, fold: int | None) -> int:
    """A fit's seed, from the job's `random_state` and the fold alone: the same on every attempt and worker."""
    if MODELS[spec.model].seed_is_random_state and (fold is None or fold * spec.repeats < spec.folds):
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
    parts |= {name: environment[name] for name in ("dataset_sha256", MODELS[spec.model].library, "processor")}
    if spec.scoring != "accuracy":  # so that keys of older versions still hold
        parts["scoring"] = spec.scoring
    parts |= {"revision": MODELS[spec.model].revision, "hyperparameters": {**hyperparameters}}
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
