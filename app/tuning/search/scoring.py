"""How fits are scored: by scikit-learn's scorers, under its names. A greater score is always better."""

from typing import Literal, NamedTuple

Task = Literal["classification", "regression"]
Scoring = Literal[
    "accuracy",
    "balanced_accuracy",
    "f1",
    "f1_macro",
    "f1_weighted",
    "roc_auc",
    "roc_auc_ovr",
    "average_precision",
    "neg_log_loss",
    "matthews_corrcoef",
    "r2",
    "neg_root_mean_squared_error",
    "neg_mean_absolute_error",
    "neg_mean_squared_error",
]


class Scorer(NamedTuple):
    """What a scorer is for, and the greatest score that there can be."""

    task: Task = "classification"
    highest: float = 1.0
    of_more_classes: Scoring | None = None  # what to take for more than two classes, if this one is for two only
    needs_probabilities: bool = False


SCORERS: dict[Scoring, Scorer] = {
    "accuracy": Scorer(),
    "balanced_accuracy": Scorer(),
    "f1": Scorer(of_more_classes="f1_macro"),
    "f1_macro": Scorer(),
    "f1_weighted": Scorer(),
    "roc_auc": Scorer(of_more_classes="roc_auc_ovr"),
    "roc_auc_ovr": Scorer(needs_probabilities=True),
    "average_precision": Scorer(),
    "neg_log_loss": Scorer(highest=0.0, needs_probabilities=True),
    "matthews_corrcoef": Scorer(),
    "r2": Scorer("regression"),
    "neg_root_mean_squared_error": Scorer("regression", highest=0.0),
    "neg_mean_absolute_error": Scorer("regression", highest=0.0),
    "neg_mean_squared_error": Scorer("regression", highest=0.0),
}
DEFAULT_SCORING: dict[Task, Scoring] = {"classification": "accuracy", "regression": "r2"}


def list_scorings(task: Task, classes: int, probabilities: bool) -> list[Scoring]:
    """The scorings for a task with so many classes and a model that gives class probabilities, or not."""
    return [
        name
        for name, scorer in SCORERS.items()
        if scorer.task == task
        and (classes <= 2 or not scorer.of_more_classes)
        and (probabilities or not scorer.needs_probabilities)
    ]
