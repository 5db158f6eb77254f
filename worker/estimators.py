"""Trains scikit-learn's classifiers."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.tuning.search.estimators import Estimator
from app.tuning.search.registry import MODELS
from worker.compiled.state import Checkpoints
from worker.training import UNTIL_THE_END, OnEpoch, Report, Scores, Split

Hyperparameters = Mapping[str, int | float | str]
Features = NDArray[np.float64]


def make_trainer(name: str) -> Callable[..., Scores]:
    """The trainer of the estimator with this name."""

    def train(
        hyperparameters: Hyperparameters,
        split: Split,
        seed: int,
        report: Report,
        on_epoch: OnEpoch,
        checkpoints: Checkpoints | None = None,
    ) -> Scores:
        return _train(name, hyperparameters, split, seed, report)

    return train


def _train(name: str, hyperparameters: Hyperparameters, split: Split, seed: int, report: Report) -> Scores:
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    with threadpool_limits(1):
        report(UNTIL_THE_END)
        model = build(name, hyperparameters, seed)
        began = time.perf_counter()
        model.fit(_features(split.images, split.rows), split.labels[split.rows])
        fitted = time.perf_counter()
        features, labels = _features(split.score_images, split.score_rows), split.score_labels[split.score_rows]
        hits = model.predict(features) == labels
        accuracy, loss = float(np.average(hits)), _log_loss(model, features, labels)
        seconds = fitted - began, time.perf_counter() - fitted
    return Scores(accuracy, loss, *seconds, hits=np.packbits(hits).tobytes())


def build(name: str, hyperparameters: Hyperparameters, seed: int) -> Any:
    """The unfitted estimator, in a pipeline if its features are standardized."""
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    own = dict(hyperparameters)
    if own.get("class_weight") == "none":
        own["class_weight"] = None  # type: ignore[assignment]
    if own.get("max_depth") == 0:
        own["max_depth"] = None  # type: ignore[assignment]
    classes = {
        "logistic_regression": LogisticRegression,
        "svc": SVC,
        "random_forest": RandomForestClassifier,
        "hist_gradient_boosting": HistGradientBoostingClassifier,
        "k_neighbors": KNeighborsClassifier,
    }
    seeded = {} if name == "k_neighbors" else {"random_state": seed}
    estimator = classes[name](**own, **seeded)
    kind = MODELS[name]
    assert issubclass(kind, Estimator)
    return make_pipeline(StandardScaler(), estimator) if kind.is_scaled else estimator


def _features(samples: NDArray[Any], rows: NDArray[Any]) -> Features:
    chosen: Features = samples[rows].reshape(len(rows), -1).astype(np.float64)
    return chosen


def _log_loss(model: Any, features: Features, labels: NDArray[Any]) -> float:
    """NaN for a model that gives no probabilities, and for labels that it has not seen."""
    from sklearn.metrics import log_loss

    if not hasattr(model, "predict_proba") or not np.isin(labels, model.classes_).all():
        return float("nan")
    return float(log_loss(labels, model.predict_proba(features), labels=model.classes_))
