"""Trains a claimed fit: one fold of the training set, or for the refit all of it, scored on the test set."""

import traceback
import warnings
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedKFold
from sklearn.utils import resample

from app.tuning import __version__
from app.tuning.jobs.attempts import Result
from app.tuning.jobs.claims import Claim
from app.tuning.jobs.tables import Outcome
from app.tuning.search.datasets import DATASETS
from app.tuning.search.spec import CrossValidation, JobSpec
from worker import faults
from worker.cnn import trainer
from worker.datasets import Arrays, forget_dataset, load_dataset
from worker.errors import finite_or_none
from worker.faults import preparing
from worker.lease import LeaseHeartbeat

Rows = NDArray[np.int32]


def train_fit(claim: Claim, heartbeat: LeaseHeartbeat) -> Result:
    """Train the fit and score it: on its fold, or, for the refit, once on the test set."""
    try:
        return _train(claim, heartbeat)
    except Exception as error:
        if faults.outcome(error) == Outcome.OUT_OF_MEMORY:
            # The next attempt, of this or another fit, should have all of the memory.
            traceback.clear_frames(error.__traceback__)
            free_memory()
        raise


def free_memory() -> None:
    """Free everything that is kept for the next fit."""
    forget_dataset()
    _folds.cache_clear()
    trainer.forget_programs()


def _train(claim: Claim, heartbeat: LeaseHeartbeat) -> Result:
    with preparing():
        arrays = load_dataset(claim.spec.dataset.name, heartbeat.report)
        split = _make_split(claim, arrays)
        train_network = TRAINERS[claim.spec.model]
    scores = train_network(
        claim.hyperparameters,
        split,
        derive_seed(claim.spec, claim.fold),
        heartbeat.report,
        lambda epoch: heartbeat.epoch(epoch._asdict()),
    )
    return Result(
        accuracy=scores.accuracy,
        loss=finite_or_none(scores.loss),
        fit_seconds=scores.fit_seconds,
        score_seconds=scores.score_seconds,
        environment={"tunewell": __version__, **trainer.describe_environment(), "dataset_sha256": arrays.sha256},
    )


# By name of the model.
TRAINERS: dict[str, trainer.TrainNetwork] = {"cnn": trainer.train_network}


def derive_seed(spec: JobSpec, fold: int | None) -> int:
    """A fit's seed, from the job's `random_state` and the fold alone: the same on every attempt and worker."""
    stream = np.random.SeedSequence([spec.random_state, 0 if fold is None else fold + 1])
    return int(stream.generate_state(1)[0] >> 1)


def _make_split(claim: Claim, arrays: Arrays) -> trainer.Split:
    spec, dataset = claim.spec, DATASETS[claim.spec.dataset.name]
    samples = spec.train_samples
    if claim.fold is None:
        rows = np.arange(samples, dtype=np.int32)
        scored = arrays.x_test, arrays.y_test, np.arange(spec.test_samples, dtype=np.int32)
    else:
        rows, held_out = split_rows(spec, claim.fold, arrays)
        if spec.resource == "n_samples" and claim.n_resources:
            share = claim.n_resources / samples
            rows, held_out = (_take_share(some, share, spec.random_state) for some in (rows, held_out))
        scored = arrays.x_train, arrays.y_train, held_out
    return trainer.Split(
        arrays.x_train, arrays.y_train, rows, *scored, dataset.scale, dataset.classes, claim.fold is not None
    )


def split_rows(spec: JobSpec, fold: int, arrays: Arrays) -> tuple[Rows, Rows]:
    """The rows that a fold trains on, and the rows that it is scored on."""
    samples = spec.train_samples
    if isinstance(spec.evaluation, CrossValidation):
        return _folds(arrays.sha256, samples, spec.evaluation.cv, _Labels(arrays))[fold]
    first = int(np.floor(samples * (1 - spec.evaluation.validation_split)))  # as Keras splits
    return np.arange(first, dtype=np.int32), np.arange(first, samples, dtype=np.int32)


def _take_share(rows: Rows, share: float, seed: int) -> Rows:
    """The rows that a halving search of scikit-learn takes of a fold, in its order: nested from rung to rung."""
    taken: Rows = resample(rows, replace=False, random_state=seed, n_samples=int(share * len(rows)))
    return taken


class _Labels:
    """Labels that `lru_cache` ignores as part of a key: the data set's hash identifies them."""

    def __init__(self, arrays: Arrays) -> None:
        self.values = arrays.y_train

    def __hash__(self) -> int:
        return 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Labels)


@lru_cache(maxsize=4)
def _folds(_: str, samples: int, folds: int, labels: _Labels) -> list[tuple[Rows, Rows]]:
    with warnings.catch_warnings():
        # scikit-learn warns of a class with fewer members than folds, and splits all the same.
        warnings.simplefilter("ignore", UserWarning)
        pairs = list(StratifiedKFold(folds).split(np.zeros(samples), labels.values[:samples]))
    return [(train.astype(np.int32), test.astype(np.int32)) for train, test in pairs]
