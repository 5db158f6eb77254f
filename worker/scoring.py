"""Scores of fitted models by scikit-learn's scorers, and the confusion matrix."""

import math
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.tuning.search.scoring import Scoring
from worker.training import Split

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
