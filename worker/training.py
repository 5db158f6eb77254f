"""What a fit asks of a model's trainer and gets from it. Loads neither TensorFlow nor scikit-learn."""

import math
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version
from typing import NamedTuple, Protocol

import numpy as np

from app.tuning.saved_models import ModelInput, Output
from app.tuning.search.scoring import Scoring, Task
from worker.compiled.state import Checkpoints, Epoch
from worker.processor import name_processor

UNTIL_THE_END = math.inf  # reported by a trainer that cannot report again before it has ended
TENSORFLOWS = ("tensorflow", "tensorflow-cpu")  # distributions of it


class Split(NamedTuple):
    """The rows that one fit trains on and is scored on; images stay bytes until a batch needs them.

    Images have shape (n, height, width), in color (n, height, width, 3); tables (n, columns). Labels, (n,), are classes
    from 0, or floats to predict.
    """

    images: np.ndarray
    labels: np.ndarray
    rows: np.ndarray
    score_images: np.ndarray
    score_labels: np.ndarray
    score_rows: np.ndarray
    scale: float
    classes: int  # 0 for regression
    score_every_epoch: bool
    scoring: Scoring = "accuracy"

    @property
    def wants_predictions(self) -> bool:
        """Whether more than the accuracy is wanted of a classifier: another score, or a refit's confusion matrix."""
        return self.scoring != "accuracy" or not self.score_every_epoch

    @property
    def task(self) -> Task:
        return "classification" if self.classes else "regression"


class Exported(NamedTuple):
    """What has been written of a model into a folder: a file `model.<format>` of each format, and what they take."""

    formats: list[str]
    left_out: dict[str, str]  # by format, why there is no such file
    input: ModelInput
    output: Output


Export = Callable[[Path], Exported]


class Scores(NamedTuple):
    """A fit's result; the loss includes the penalties, as in `keras.Model.evaluate`."""

    accuracy: float | None  # None for regression
    loss: float
    fit_seconds: float
    score_seconds: float
    # For each scored row in order, whether it was classified correctly, as `np.packbits` packs; None if not known.
    hits: bytes | None = None
    resumed_from: int | None = None  # the epoch of the snapshot that it went on from
    score: float | None = None  # by the split's scoring; None where that is the accuracy
    predicted: np.ndarray | None = None  # the class of each scored row, (n,), for the confusion matrix
    export: Export | None = None  # writes the model into a folder; to be called before the next fit is trained


Report = Callable[[float], None]
OnEpoch = Callable[[Epoch], None]


class Train(Protocol):
    """A model's trainer; without use for them it may ignore `checkpoints`."""

    def __call__(
        self,
        hyperparameters: Mapping[str, int | float | str],
        split: Split,
        seed: int,
        report: Report,
        on_epoch: OnEpoch,
        checkpoints: Checkpoints | None = None,
    ) -> Scores: ...


def describe_environment() -> dict[str, str]:
    """Versions of the software that trains, and the processor."""
    return {
        "python": python_version(),
        "tensorflow": next((found for name in TENSORFLOWS if (found := _find_version(name))), "none"),
        "keras": version("keras"),
        "scikit_learn": version("scikit-learn"),
        "processor": name_processor(),
    }


def _find_version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
