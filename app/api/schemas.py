"""The response models: how clients see a job, its trials and its best trial."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, Self, TypeVar
from uuid import UUID

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializeAsAny,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)

from app.tuning.jobs.tables import ENDED_JOB, EpochRow, Fit, Job, JobState, Origin, State, Trial
from app.tuning.search.models import Value
from app.tuning.search.spec import JobSpec
from app.tuning.search.stored import UnreadableSpec, read_spec

Accuracy = float
_T = TypeVar("_T")


def _as_stored(value: Any, known: ValidatorFunctionWrapHandler) -> Any:
    try:
        return known(value)
    except ValidationError:
        return value


# A value from a row: if another version wrote something that this one cannot validate, it is shown unchanged.
Stored = Annotated[_T, WrapValidator(_as_stored), SerializeAsAny()]
Params = Stored[dict[str, Value]]
Ranks = Mapping[tuple[int, float], int]  # by a trial's resources and accuracy


class ResponseModel(BaseModel):
    """Base of the responses: fields are read from the row's columns of the same name."""

    model_config = ConfigDict(from_attributes=True)


class ErrorResponse(ResponseModel):
    """Why a job, a trial or a fit failed; 4 KiB at most."""

    model_config = ConfigDict(title="Error")

    @model_validator(mode="before")
    @classmethod
    def fill(cls, stored: Any) -> Any:
        return {"traceback": None, **stored} if isinstance(stored, dict) else stored

    type: str
    message: str
    traceback: str | None


class Counts(ResponseModel):
    """How many trials or fits there are in each state."""

    total: int
    queued: int
    running: int
    succeeded: int
    failed: int
    cancelled: int

    @classmethod
    def of(cls, job: Job, what: str) -> Self:
        return cls(**{state: getattr(job, f"{what}_{state}") for state in cls.model_fields})


class TrialCounts(Counts):
    """How many trials there are in each state."""

    pruned: int


class RungResponse(ResponseModel):
    """A rung: so many candidates, each trained with so many epochs or samples, or on so many folds."""

    model_config = ConfigDict(title="Rung")

    bracket: int
    iter: int
    n_resources: int
    n_candidates: int
    state: Stored[State]

    @classmethod
    def of(cls, job: Job) -> list["RungResponse"]:
        rungs = [cls.model_validate(rung) for rung in job.rungs or ()]
        ended = job.state in ENDED_JOB
        open_states = (State.QUEUED, State.RUNNING)
        return [
            rung.model_copy(update={"state": State.CANCELLED}) if ended and rung.state in open_states else rung
            for rung in rungs
        ]


class BestSoFar(ResponseModel):
    """The best of the trials that have succeeded."""

    trial: int
    params: Params
    validation_accuracy: Accuracy


class JobResponse(ResponseModel):
    """One search."""

    model_config = ConfigDict(title="Job")

    id: UUID
    name: Stored[str | None]
    state: Stored[JobState]
    spec: Stored[JobSpec] = Field(description="The posted job with every default filled in.")
    trials: TrialCounts
    fits: Counts
    rungs: list[RungResponse] = Field(description="Of a halving or hyperband search; empty for other searches.")
    epochs_trained: int = Field(description="By the fits that have succeeded.")
    epochs_reused: int = Field(description="That equal fits or a checkpoint had trained before.")
    skipped: int = Field(description="Forbidden points that were left out, or drawn again.")
    reproducible: bool = Field(description="Whether another run gives the same table to the last digit.")
    reproducible_because: str | None = Field(description="Why it is not reproducible; null if it is.")
    progress: float = Field(description="Share of the fits that have ended, 0 to 1.")
    eta_seconds: float | None = Field(
        description="Remaining time, estimated from the remaining multiply-adds; null while unknown."
    )
    best: BestSoFar | None
    error: Stored[ErrorResponse | None]
    labels: Stored[dict[str, str]]
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None

    @classmethod
    def of(cls, job: Job, best_params: Params | None) -> "JobResponse":
        """A job's response, from its row and its best trial's hyperparameters."""
        stored = job.spec if isinstance(job.spec, dict) else {}
        spec, error = _read(job)
        best = None
        if best_params is not None and job.best_trial is not None and job.best_accuracy is not None:
            best = BestSoFar(trial=job.best_trial, params=best_params, validation_accuracy=job.best_accuracy)
        ended = job.fits_succeeded + job.fits_failed + job.fits_cancelled
        return cls(
            id=job.id,
            name=stored.get("name"),
            state=job.state,
            spec=spec,
            trials=TrialCounts.of(job, "trials"),
            fits=Counts.of(job, "fits"),
            rungs=RungResponse.of(job),
            epochs_trained=job.epochs_trained,
            epochs_reused=job.epochs_reused,
            skipped=job.skipped,
            reproducible=job.irreproducible is None,
            reproducible_because=job.irreproducible,
            progress=ended / job.fits_total,
            eta_seconds=_estimate_seconds_left(job),
            best=best,
            error=error,
            labels=stored.get("labels", {}),
            created_at=job.created_at,
            started_at=job.started_at,
            ended_at=job.ended_at,
        )


def _read(job: Job) -> tuple[Any, Any]:
    """The spec and the error shown for a job."""
    try:
        return read_spec(job.spec), job.error
    except UnreadableSpec as error:
        return job.spec, job.error or {"type": "UnreadableSpec", "message": str(error)}


def _estimate_seconds_left(job: Job) -> float | None:
    if job.ended_at:
        return 0.0
    if not job.cost_done or job.state == JobState.CANCELLING:
        return None
    return round(job.seconds_done / job.cost_done * job.cost_left / max(1, job.parallel_fits), 1)


class Validation(ResponseModel):
    """Over the folds: mean, population standard deviation, and each fold's accuracy."""

    mean_accuracy: Accuracy
    std_accuracy: float
    fold_accuracies: list[Accuracy]


class Test(ResponseModel):
    """The refitted best trial on the test set, which plays no part in the selection."""

    accuracy: Accuracy
    loss: float | None
    samples: int
    accuracy_ci95: tuple[float, float] = Field(description="Wilson's 95% interval of the accuracy.")


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
        description="Trials that McNemar's test cannot tell from the winner; null until the refit, or without hits."
    )
    corrected: Stored[Corrected | None] = Field(
        description="Null until the refit, without hits, in searches with rungs, and with another rule than `best`."
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
    accuracy = trial.validation_accuracy
    own = {name: getattr(trial, name) for name in TrialResponse.model_fields if name != "rank"}
    rank = None if accuracy is None else ranks[trial.n_resources, accuracy]
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


class JobPage(ResponseModel):
    """A page of jobs, and the token of the next page."""

    items: list[JobResponse]
    next_page_token: str | None


class TrialPage(ResponseModel):
    """A page of trials, and the token of the next page."""

    items: list[TrialResponse]
    next_page_token: str | None


class DatasetResponse(ResponseModel):
    """A data set that a job can use."""

    model_config = ConfigDict(title="Dataset")

    name: str
    description: str
    train_samples: int
    test_samples: int
    shape: tuple[int, int, int] = Field(description="Height, width and channels of an image, in pixels.")
    classes: int
    download: bool = Field(description="Whether each worker machine downloads it once.")


class DatasetPage(ResponseModel):
    """A page of data sets, and the token of the next page."""

    items: list[DatasetResponse]
    next_page_token: str | None


class Hyperparameter(ResponseModel):
    """A hyperparameter: its type, bounds or choices, default and meaning."""

    name: str
    type: Literal["number", "integer", "string"]
    minimum: float | None
    exclusive_minimum: float | None
    maximum: float | None
    exclusive_maximum: float | None
    choices: list[str] | None
    default: Value
    meaning: str


class ModelResponse(ResponseModel):
    """A model that a job can use."""

    model_config = ConfigDict(title="Model")

    name: str
    description: str
    hyperparameters: list[Hyperparameter]


class ModelPage(ResponseModel):
    """A page of models, and the token of the next page."""

    items: list[ModelResponse]
    next_page_token: str | None


class Health(ResponseModel):
    """The state of the service and of each of its parts."""

    status: Literal["ok", "degraded"]
    checks: dict[str, Literal["ok", "unavailable"]]
