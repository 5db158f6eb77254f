"""Trains scikit-learn's classifiers and regressors."""

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.tuning.search.estimators import Estimator
from app.tuning.search.registry import MODELS
from app.tuning.search.scoring import Task
from worker.compiled.state import Checkpoints
from worker.saving.estimators import write_estimator
from worker.scoring import score_estimator
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
        model = build(name, split.task, hyperparameters, seed)
        began = time.perf_counter()
        model.fit(_features(split.images, split.rows), split.labels[split.rows])
        fitted = time.perf_counter()
        features, labels = _features(split.score_images, split.score_rows), split.score_labels[split.score_rows]
        judge = _judge_classes if split.classes else _judge_numbers
        scores = judge(model, features, labels)._replace(score=score_estimator(model, split.scoring, features, labels))
        scores = scores._replace(fit_seconds=fitted - began, score_seconds=time.perf_counter() - fitted)
    return scores._replace(export=partial(write_estimator, model, split))


def _judge_classes(model: Any, features: Features, labels: NDArray[Any]) -> Scores:
    predicted = model.predict(features)
    hits = predicted == labels
    packed = np.packbits(hits).tobytes()
    return Scores(float(np.average(hits)), _log_loss(model, features, labels), 0, 0, packed, predicted=predicted)


def _judge_numbers(model: Any, features: Features, labels: NDArray[Any]) -> Scores:
    from sklearn.metrics import mean_squared_error

    return Scores(None, float(mean_squared_error(labels, model.predict(features))), 0, 0)


def build(name: str, task: Task, hyperparameters: Hyperparameters, seed: int) -> Any:
    """The unfitted estimator, in a pipeline if its features are standardized."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    own: dict[str, Any] = dict(hyperparameters)
    if task == "regression" or own.get("class_weight", "none") == "none":
        own.pop("class_weight", None)
    if own.get("max_depth") == 0:
        own["max_depth"] = None
    if own.get("max_features") == "auto":
        own["max_features"] = "sqrt" if task == "classification" else 1.0
    made = _find_class(name, task)(**own)
    if "random_state" in made.get_params():
        made.set_params(random_state=seed)
    kind = MODELS[name]
    assert issubclass(kind, Estimator)
    return make_pipeline(StandardScaler(), made) if kind.is_scaled else made


def _find_class(name: str, task: Task) -> Any:
    from sklearn import ensemble, linear_model, neighbors, svm

    kind = "Classifier" if task == "classification" else "Regressor"
    return {
        "logistic_regression": linear_model.LogisticRegression,
        "ridge": linear_model.Ridge,
        "svc": svm.SVC,
        "svr": svm.SVR,
        "random_forest": getattr(ensemble, f"RandomForest{kind}"),
        "hist_gradient_boosting": getattr(ensemble, f"HistGradientBoosting{kind}"),
        "k_neighbors": getattr(neighbors, f"KNeighbors{kind}"),
    }[name]


def _features(samples: NDArray[Any], rows: NDArray[Any]) -> Features:
    chosen: Features = samples[rows].reshape(len(rows), -1).astype(np.float64)
    return chosen


def _log_loss(model: Any, features: Features, labels: NDArray[Any]) -> float:
    """NaN for a model that gives no probabilities, and for labels that it has not seen."""
    from sklearn.metrics import log_loss

    if not hasattr(model, "predict_proba") or not np.isin(labels, model.classes_).all():
        return float("nan")
    return float(log_loss(labels, model.predict_proba(features), labels=model.classes_))
