"""How clients see a job's trials, their fits and the best trial."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import ConfigDict, Field, model_validator

from app.api.schemas.base import Accuracy, ErrorResponse, Params, ResponseModel, Score, Stored
from app.tuning.jobs.tables import EpochRow, Fit, Origin, State, Trial

Ranks = Mapping[tuple[int, float], int]  # by a trial's resources and score


class Validation(ResponseModel):
    """Over the folds: mean, population standard deviation, and each fold's; accuracies are null for regression."""

    scoring: str | None = Field(description="What the scores are; null if the job's spec is unreadable.")
    mean_score: Score
    std_score: float
    fold_scores: list[Score]
    mean_accuracy: Accuracy | None
    std_accuracy: float | None
    fold_accuracies: list[Accuracy] | None


class Test(ResponseModel):
    """The refitted best trial on the test set, which plays no part in the selection."""

    score: Score
    accuracy: Accuracy | None
    loss: float | None
    samples: int
    accuracy_ci95: tuple[float, float] | None = Field(description="Wilson's 95% interval of the accuracy.")
    confusion: list[list[int]] | None = Field(
        description="How many samples of each class (row) were taken for each class (column); null for regression, for "
        "more than 50 classes, and for jobs of older versions."
    )


class Environment(ResponseModel):
    """Software and data that the best trial was trained with."""

    @model_validator(mode="before")
    @classmethod
    def fill(cls, stored: Any) -> Any:
        return {"processor": None, **stored} if isinstance(stored, dict) else stored

    tunewell: str
    python: str
    tensorflow: str
    keras: str
    scikit_learn: str
    dataset_sha256: str = Field(
        description="SHA-256 of the bytes of x_train, y_train, x_test and y_test, in this order."
    )
    processor: str | None = Field(
        description="Accuracies are equal to the last digit on processors of one kind; null for jobs of older versions."
    )


class Selection(ResponseModel):
    """How the winner was chosen."""

    rule: Literal["best", "one_standard_error"]
    n_compared: int = Field(description="Trials that it was chosen from, those that were pruned included.")


class Corrected(ResponseModel):
    """The accuracy corrected for having chosen the best of many, by bootstrap bias-corrected cross-validation."""

    accuracy: Accuracy
    ci95: tuple[float, float]


class Best(ResponseModel):
    """The best hyperparameters."""

    job_id: UUID
    final: bool = Field(description="False while the job runs, and for cancelled and failed jobs.")
    trial: int
    params: Params
    validation: Validation
    selection: Selection
    tied: list[int] | None = Field(
        description="Trials that McNemar's test cannot tell from the winner; null until the refit, without hits, and "
        "where the scoring is not the accuracy."
    )
    corrected: Stored[Corrected | None] = Field(
        description="Null until the refit, without hits, in searches with rungs, with another rule than `best`, and "
        "with another scoring than the accuracy."
    )
    test: Test | None
    refit_seconds: float | None
    environment: Stored[Environment | None]


class TrialResponse(ResponseModel):
    """One candidate."""

    model_config = ConfigDict(title="Trial")

    number: int
    state: Stored[State]
    params: Params
    origin: Stored[Origin]
    bracket: int
    iter: int = Field(description="The highest rung that it has reached, from 0.")
    n_resources: int | None = Field(description="Of that rung; null in a search without rungs.")
    validation_score: Score | None
    validation_score_std: float | None
    validation_accuracy: Accuracy | None
    validation_accuracy_std: float | None
    rank: int | None = Field(description="1 is best; ties share the lowest rank; null until the trial has succeeded.")
    fit_seconds: float | None
    error: Stored[ErrorResponse | None]

    @classmethod
    def of(cls, trial: Trial, ranks: Ranks) -> "TrialResponse":
        return cls.model_validate(read_trial_fields(trial, ranks))


def read_trial_fields(trial: Trial, ranks: Ranks) -> dict[str, Any]:
    """A trial's own fields, without its fits."""
    score = trial.validation_score
    own = {name: getattr(trial, name) for name in TrialResponse.model_fields if name != "rank"}
    rank = None if score is None else ranks[trial.n_resources, score]
    return {**own, "n_resources": trial.n_resources or None, "rank": rank}


class EpochResponse(ResponseModel):
    """One pass over the training samples; `val_` fields are measured on the fold, and null for the refit."""

    model_config = ConfigDict(title="Epoch")

    epoch: int
    loss: float | None
    accuracy: float | None
    val_loss: float | None
    val_accuracy: float | None
    seconds: float


class FitResponse(ResponseModel):
    """One training of the trial on a fold; `fold` is null for the refit."""

    model_config = ConfigDict(title="Fit")

    fold: int | None
    n_resources: int | None = Field(description="Epochs, samples or folds of its rung; null in a search without rungs.")
    state: Stored[State]
    cached: bool = Field(description="Whether the result is that of an equal fit that was trained before.")
    resumed_from: int | None = Field(description="The epoch of the checkpoint from which it was trained on.")
    attempt: int
    score: Score | None
    accuracy: Accuracy | None
    loss: float | None
    history: list[EpochResponse]
    fit_seconds: float | None
    worker: str | None
    started_at: datetime | None
    ended_at: datetime | None
    error: Stored[ErrorResponse | None]

    @classmethod
    def of(cls, fit: Fit, epochs: list[EpochRow]) -> "FitResponse":
        own = {name: getattr(fit, name) for name in cls.model_fields if name != "history"}
        return cls.model_validate({**own, "n_resources": fit.n_resources or None, "history": epochs})


class TrialWithFits(TrialResponse):
    """One candidate with its fits."""

    model_config = ConfigDict(title="TrialWithFits")

    fits: list[FitResponse]


class TrialPage(ResponseModel):
    """A page of trials, and the token of the next page."""

    items: list[TrialResponse]
    next_page_token: str | None
