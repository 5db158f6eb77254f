"""Trains a claimed fit: one fold of the training set, or for the refit all of it, scored on the test set."""

import sys
import traceback
import warnings
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.utils import resample
from sqlalchemy.orm import Session

from app.tuning import __version__
from app.tuning.jobs.attempts import Result
from app.tuning.jobs.claims import Claim
from app.tuning.jobs.model_rows import find_saved_model
from app.tuning.jobs.reuse import Known, find_equal_fit, list_hits
from app.tuning.jobs.tables import Outcome
from app.tuning.saved_models import SavedModel
from app.tuning.search.estimators import ESTIMATORS
from app.tuning.search.keys import derive_seed, make_key
from app.tuning.search.models import Cnn, Model
from app.tuning.search.networks import Mlp, Resnet
from app.tuning.search.own_networks import LayerList
from app.tuning.search.selection import correct_accuracy, find_tied, unpack_hits
from app.tuning.search.spec import CrossValidation, JobSpec
from worker import faults
from worker.checkpoints import FitCheckpoints
from worker.datasets import Arrays, forget_dataset, load_dataset
from worker.errors import finite_or_none
from worker.estimators import make_trainer
from worker.faults import preparing
from worker.lease import LeaseHeartbeat
from worker.saving.store import copy_model, store_model
from worker.scoring import count_confusion
from worker.training import Scores, Split, Train, describe_environment

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
    if loaded := sys.modules.get("worker.compiled.trainer"):
        loaded.forget_programs()


def _train(claim: Claim, heartbeat: LeaseHeartbeat) -> Result:
    with preparing():
        arrays = load_dataset(claim.spec.dataset.name, heartbeat.report, claim.spec.dataset.sha256)
        split = _make_split(claim, arrays)
        train = _find_trainer(claim.spec)
    seed = derive_seed(claim.spec, claim.fold)
    environment = {"tunewell": __version__, **describe_environment(), "dataset_sha256": arrays.sha256}
    key = make_key(claim.spec, claim.hyperparameters, claim.fold, claim.n_resources, environment)
    selection = _describe_selection(claim, arrays, heartbeat) if claim.is_refit else None
    epochs = claim.hyperparameters.get("epochs", 0)
    made: dict[str, Any] = {"environment": environment, "key": key, "epochs": epochs, "selection": selection}
    if claim.spec.limits.reuse and (reused := _reuse(claim, key, made, heartbeat)):
        return reused
    scores = train(
        claim.hyperparameters,
        split,
        seed,
        heartbeat.report,
        lambda epoch: heartbeat.epoch(epoch._asdict()),
        FitCheckpoints(key, keeps_last=claim.may_go_on),
    )
    if claim.keeps_model and scores.export:
        names = list(claim.spec.data.class_names or map(str, range(split.classes))) or None
        made["model"] = store_model(claim.job_id, scores.export, names, environment, heartbeat)
    loss, seconds = finite_or_none(scores.loss), (scores.fit_seconds, scores.score_seconds)
    made |= {"score": scores.score, "hits": scores.hits, "resumed_from": scores.resumed_from}
    if claim.is_refit and scores.predicted is not None:
        made["confusion"] = count_confusion(split, scores.predicted)
    return Result(scores.accuracy, loss, *seconds, **made)


def _reuse(claim: Claim, key: str, made: dict[str, Any], heartbeat: LeaseHeartbeat) -> Result | None:
    """The result of an equal fit, with its model if that is to be kept; None where there is none."""
    epochs: Any = claim.hyperparameters.get("epochs")

    def find(session: Session) -> Known | None:
        return find_equal_fit(session, key, epochs, by_epoch=claim.spec.scoring == "accuracy")

    known = heartbeat.read(find)
    model = _copy_model(claim, key, heartbeat) if known and claim.keeps_model else None
    if not known or (claim.keeps_model and not model):
        return None
    for epoch in known.epochs:
        heartbeat.epoch(epoch)
    own = {"score": known.score, "hits": known.hits, "confusion": known.confusion, "model": model}
    return Result(*known[:4], cached=True, **{**made, **own})


def _copy_model(claim: Claim, key: str, heartbeat: LeaseHeartbeat) -> SavedModel | None:
    """The model of an equal fit, copied for this job; None where there is none, so that it is trained again."""
    found = heartbeat.read(lambda session: find_saved_model(session, key))
    if not found:
        return None
    owner, model = found
    return model if copy_model(model, owner, claim.job_id, heartbeat) else None


def _train_cnn(*args: Any, **more: Any) -> Scores:
    from worker.cnn import trainer  # here, so that an estimator's fit does not load TensorFlow

    _, split, *_ = args
    in_color = split.images.ndim == 4
    return _train_layers(Cnn, *args, **more) if in_color else trainer.train_network(*args, **more)


def _train_layers(model: type[Model], *args: Any, **more: Any) -> Scores:
    from worker.network import trainer

    return trainer.train_layers(model, *args, **more)


# By name of the model.
TRAINERS: dict[str, Train] = {
    "cnn": _train_cnn,
    **{one.name: partial(_train_layers, one) for one in (Mlp, Resnet)},
    **{one.name: make_trainer(one.name) for one in ESTIMATORS},
}


def _find_trainer(spec: JobSpec) -> Train:
    if isinstance(spec.model, LayerList):
        return partial(_train_layers, spec.model_class)
    return TRAINERS[spec.model]


def _describe_selection(claim: Claim, arrays: Arrays, heartbeat: LeaseHeartbeat) -> dict[str, Any] | None:
    """What the stored hits say of the winner; None where there are none, or something else was scored."""
    if claim.spec.scoring != "accuracy":
        return None
    found = heartbeat.read(lambda session: list_hits(session, claim.job_id)) or {}
    folds = range(claim.spec.folds // claim.spec.repeats)  # a row counts once
    sizes = [len(_split_fold(claim, fold, arrays)[1]) for fold in folds]
    hits = {}
    for number, mine in found.items():
        packed = [one for fold in folds if (one := mine.get(fold)) is not None]
        if len(packed) == len(sizes):
            hits[number] = unpack_hits(packed, sizes)
    if len(hits) < len(found) or claim.trial_number not in hits:
        return None
    # The correction knows neither of the rungs below nor of another rule than the best.
    simple = claim.spec.resource is None and claim.spec.select == "best"
    corrected = correct_accuracy(hits, claim.spec.random_state) if simple else None
    return {"tied": find_tied(hits, claim.trial_number), "corrected": corrected and corrected._asdict()}


def _make_split(claim: Claim, arrays: Arrays) -> Split:
    spec, dataset = claim.spec, claim.spec.data
    samples = spec.train_samples
    if claim.fold is None:
        rows = np.arange(samples, dtype=np.int32)
        scored = arrays.x_test, arrays.y_test, np.arange(spec.test_samples, dtype=np.int32)
    else:
        rows, held_out = _split_fold(claim, claim.fold, arrays)
        scored = arrays.x_train, arrays.y_train, held_out
    facts = dataset.scale, dataset.classes, claim.fold is not None
    return Split(arrays.x_train, arrays.y_train, rows, *scored, *facts, scoring=spec.scoring)


def _split_fold(claim: Claim, fold: int, arrays: Arrays) -> tuple[Rows, Rows]:
    """The rows of a fold, or the share of them that the rung takes."""
    spec = claim.spec
    rows, held_out = split_rows(spec, fold, arrays)
    if spec.resource != "n_samples" or not claim.n_resources:
        return rows, held_out
    share = claim.n_resources / spec.train_samples
    return _take_share(rows, share, spec.random_state), _take_share(held_out, share, spec.random_state)


def split_rows(spec: JobSpec, fold: int, arrays: Arrays) -> tuple[Rows, Rows]:
    """The rows that a fold trains on, and the rows that it is scored on."""
    samples = spec.train_samples
    if isinstance(spec.evaluation, CrossValidation):
        cv = spec.evaluation.cv  # each repeat has the same folds
        return _folds(arrays.sha256, samples, cv, _Labels(arrays))[fold % cv]
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
        splitter = KFold(folds) if labels.values.dtype.kind == "f" else StratifiedKFold(folds)
        pairs = list(splitter.split(np.zeros(samples), labels.values[:samples]))
    return [(train.astype(np.int32), test.astype(np.int32)) for train, test in pairs]
