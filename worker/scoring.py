"""Scores of fitted models by scikit-learn's scorers, and the confusion matrix."""

import math
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.tuning.search.scoring import Scoring
from worker.training import Scores, Split

MAX_CONFUSED = 50  # classes of which a confusion matrix is kept


def score_estimator(model: Any, scoring: Scoring, features: NDArray[Any], labels: NDArray[Any]) -> float | None:
    """The score of a fitted estimator, as `GridSearchCV` computes it; None for the accuracy, which is known.

    Raises ValueError if it is not defined for these labels.
    """
    from sklearn.metrics import get_scorer

    if scoring == "accuracy":
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of classes that are lacking
        return check_score(scoring, float(get_scorer(scoring)(model, features, labels)), labels)


def score_probabilities(split: Split, scores: Scores, predict: Callable[[], NDArray[np.float32]]) -> Scores:
    """The scores with the one that the split asks for, and the predicted classes.

    `predict` gives the probabilities of the classes of each scored row, (n, classes).

    Raises ValueError if they are not numbers, or if the score is not defined for the split's labels.
    """
    began = time.perf_counter()
    probabilities = predict().astype(np.float64)
    predicted = probabilities.argmax(axis=1)
    score, labels = None, split.score_labels[split.score_rows]
    if split.scoring != "accuracy":
        if not np.isfinite(probabilities).all():
            raise ValueError(f"{split.scoring} is not defined for a network whose outputs are not numbers")
        probabilities /= probabilities.sum(axis=1, keepdims=True)  # which float32 makes 1 only nearly
        score = score_estimator(_make_known(probabilities), split.scoring, np.arange(len(labels)), labels)
    seconds = scores.score_seconds + time.perf_counter() - began
    return scores._replace(score=score, predicted=predicted, score_seconds=seconds)


def score_numbers(split: Split, scores: Scores, predict: Callable[[], NDArray[np.float32]]) -> Scores:
    """The scores with the one that the split asks for; `predict` gives the predicted number of each scored row, (n,).

    Raises ValueError if the numbers are not finite, or if the score is not defined for the split's labels.
    """
    from sklearn.base import BaseEstimator, RegressorMixin

    began = time.perf_counter()
    predicted, labels = predict().astype(np.float64), split.score_labels[split.score_rows]
    if not np.isfinite(predicted).all():
        raise ValueError(f"{split.scoring} is not defined for a network whose outputs are not numbers")

    class Known(RegressorMixin, BaseEstimator):  # type: ignore[misc]
        def predict(self, rows: NDArray[np.intp]) -> NDArray[np.float64]:
            return predicted[rows]

    score = score_estimator(Known(), split.scoring, np.arange(len(labels)), labels)
    return scores._replace(score=score, score_seconds=scores.score_seconds + time.perf_counter() - began)


def _make_known(probabilities: NDArray[np.float64]) -> Any:
    """A classifier for scikit-learn whose samples are the numbers of the rows."""
    from sklearn.base import BaseEstimator, ClassifierMixin

    class Known(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
        classes_ = np.arange(probabilities.shape[1])

        def predict_proba(self, rows: NDArray[np.intp]) -> NDArray[np.float64]:
            return probabilities[rows]

        def predict(self, rows: NDArray[np.intp]) -> NDArray[np.intp]:
            guesses: NDArray[np.intp] = probabilities[rows].argmax(axis=1)
            return guesses

    return Known()


def check_score(scoring: Scoring, score: float, labels: NDArray[Any]) -> float:
    """The score, unless it is not a number.

    Raises ValueError if it is not.
    """
    if not math.isfinite(score):
        found = f"{len(labels)} scored rows with {len(np.unique(labels))} different labels"
        raise ValueError(f"{scoring} is not defined for {found}: use more samples, fewer folds or another scoring")
    return score


def count_confusion(split: Split, predicted: NDArray[Any]) -> list[list[int]] | None:
    """How many scored rows of each class were taken for each class; None for more than 50 classes."""
    if split.classes > MAX_CONFUSED:
        return None
    counts = np.zeros((split.classes, split.classes), np.int64)
    np.add.at(counts, (split.score_labels[split.score_rows], predicted), 1)
    return [[int(count) for count in row] for row in counts]
