"""The answers: what a job, its trials and its best look like to clients."""

from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar
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

from app.tuning.models import Value
from app.tuning.spec import JobSpec
from app.tuning.stored import UnreadableSpec, read_spec
from app.tuning.tables import EpochRow, Fit, Job, JobState, State, Trial

Accuracy = float
T = TypeVar("T")


def _as_stored(value: Any, known: ValidatorFunctionWrapHandler) -> Any:
    try:
        return known(value)
    except ValidationError:
        return value


# What comes from a row: where another version has written something else, that is shown as it is.
Stored = Annotated[T, WrapValidator(_as_stored), SerializeAsAny()]
Params = Stored[dict[str, Value]]


class Answer(BaseModel):
    """Read straight from a row where the names agree."""

    model_config = ConfigDict(from_attributes=True)


class Error(Answer):
    """Why a job, a trial or a fit failed; 4 KiB at most."""

    @model_validator(mode="before")
    @classmethod
    def fill(cls, stored: Any) -> Any:
        return {"traceback": None, **stored} if isinstance(stored, dict) else stored

    type: str
    message: str
    traceback: str | None


class Counts(Answer):
    """How many trials or fits there are in each state."""

    total: int
    queued: int
    running: int
    succeeded: int
    failed: int
    cancelled: int

    @classmethod
    def of(cls, job: Job, what: str) -> "Counts":
        return cls(**{state: getattr(job, f"{what}_{state}") for state in cls.model_fields})


class BestSoFar(Answer):
    """The best of the trials that have succeeded."""

    trial: int
    params: Params
    validation_accuracy: Accuracy


class JobAnswer(Answer):
    """One search."""

    model_config = ConfigDict(title="Job")

    id: UUID
    name: Stored[str | None]
    state: Stored[JobState]
    spec: Stored[JobSpec] = Field(description="The posted job with every default filled in.")
    trials: Counts
    fits: Counts
    progress: float = Field(description="The share of the fits that have ended, 0 to 1.")
    eta_seconds: float | None = Field(description="Time left, from the multiply-adds left; null while unknown.")
    best: BestSoFar | None
    error: Stored[Error | None]
    labels: Stored[dict[str, str]]
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None

    @classmethod
    def of(cls, job: Job, winner: Params | None) -> "JobAnswer":
        """A job's answer, from its row and its best trial's hyperparameters."""
        stored = job.spec if isinstance(job.spec, dict) else {}
        spec, error = _read(job)
        best = None
        if winner is not None and job.best_trial is not None and job.best_accuracy is not None:
            best = BestSoFar(trial=job.best_trial, params=winner, validation_accuracy=job.best_accuracy)
        ended = job.fits_succeeded + job.fits_failed + job.fits_cancelled
        return cls(
            id=job.id,
            name=stored.get("name"),
            state=job.state,
            spec=spec,
            trials=Counts.of(job, "trials"),
            fits=Counts.of(job, "fits"),
            progress=ended / job.fits_total,
            eta_seconds=_eta(job),
            best=best,
            error=error,
            labels=stored.get("labels", {}),
            created_at=job.created_at,
            started_at=job.started_at,
            ended_at=job.ended_at,
        )


def _read(job: Job) -> tuple[Any, Any]:
    """The spec and the error that a job shows."""
    try:
        return read_spec(job.spec), job.error
    except UnreadableSpec as error:
        return job.spec, job.error or {"type": "UnreadableSpec", "message": str(error)}


def _eta(job: Job) -> float | None:
    if job.ended_at:
        return 0.0
    if not job.cost_done or job.state == JobState.CANCELLING:
        return None
    return round(job.seconds_done / job.cost_done * job.cost_left / max(1, job.parallel_fits), 1)


class Validation(Answer):
    """Over the folds: mean, the population's deviation, and each fold's accuracy."""

    mean_accuracy: Accuracy
    std_accuracy: float
    fold_accuracies: list[Accuracy]


class Test(Answer):
    """What the refit of the winner scored on the test set, which nothing is chosen by."""

    accuracy: Accuracy
    loss: float | None
    samples: int
    accuracy_ci95: tuple[float, float] = Field(description="Wilson's interval.")


class Environment(Answer):
    """What trained the winner."""

    tunewell: str
    python: str
    tensorflow: str
    keras: str
    scikit_learn: str
    dataset_sha256: str = Field(description="Of the bytes of x_train, y_train, x_test and y_test, in this order.")


class Best(Answer):
    """The best hyperparameters."""

    job_id: UUID
    final: bool = Field(description="False while the job runs, and for one that was cancelled or failed.")
    trial: int
    params: Params
    validation: Validation
    test: Test | None
    refit_seconds: float | None
    environment: Stored[Environment | None]


class TrialAnswer(Answer):
    """One candidate."""

    model_config = ConfigDict(title="Trial")

    number: int
    state: Stored[State]
    params: Params
    validation_accuracy: Accuracy | None
    validation_accuracy_std: float | None
    rank: int | None = Field(description="1 is best, ties share the lowest; null until the trial has succeeded.")
    fit_seconds: float | None
    error: Stored[Error | None]

    @classmethod
    def of(cls, trial: Trial, ranks: dict[float, int]) -> "TrialAnswer":
        return cls.model_validate(trial_fields(trial, ranks))


def trial_fields(trial: Trial, ranks: dict[float, int]) -> dict[str, Any]:
    """What a trial shows of itself, with or without its fits."""
    accuracy = trial.validation_accuracy
    own = {name: getattr(trial, name) for name in TrialAnswer.model_fields if name != "rank"}
    return {**own, "rank": None if accuracy is None else ranks[accuracy]}


class Epoch(Answer):
    """One pass over the training samples; `val_` is of the fold, and null for the refit."""

    epoch: int
    loss: float | None
    accuracy: float | None
    val_loss: float | None
    val_accuracy: float | None
    seconds: float


class FitAnswer(Answer):
    """One training of the trial on a fold; `fold` is null for the refit."""

    model_config = ConfigDict(title="Fit")

    fold: int | None
    state: Stored[State]
    attempt: int
    accuracy: Accuracy | None
    loss: float | None
    history: list[Epoch]
    fit_seconds: float | None
    worker: str | None
    started_at: datetime | None
    ended_at: datetime | None
    error: Stored[Error | None]

    @classmethod
    def of(cls, fit: Fit, epochs: list[EpochRow]) -> "FitAnswer":
        own = {name: getattr(fit, name) for name in cls.model_fields if name != "history"}
        return cls.model_validate({**own, "history": epochs})


class TrialWithFits(TrialAnswer):
    """One candidate with its fits."""

    model_config = ConfigDict(title="TrialWithFits")

    fits: list[FitAnswer]


class JobPage(Answer):
    """Some jobs, and the token of those after them."""

    items: list[JobAnswer]
    next_page_token: str | None


class TrialPage(Answer):
    """Some trials, and the token of those after them."""

    items: list[TrialAnswer]
    next_page_token: str | None


class DatasetAnswer(Answer):
    """A data set that a job can ask for."""

    model_config = ConfigDict(title="Dataset")

    name: str
    description: str
    train_samples: int
    test_samples: int
    shape: tuple[int, int, int] = Field(description="Height, width and channels of an image, in pixels.")
    classes: int
    download: bool = Field(description="Whether a worker's machine downloads it once.")


class DatasetPage(Answer):
    """Some data sets, and the token of those after them."""

    items: list[DatasetAnswer]
    next_page_token: str | None


class Hyperparameter(Answer):
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


class ModelAnswer(Answer):
    """A model that a job can ask for."""

    model_config = ConfigDict(title="Model")

    name: str
    description: str
    hyperparameters: list[Hyperparameter]


class ModelPage(Answer):
    """Some models, and the token of those after them."""

    items: list[ModelAnswer]
    next_page_token: str | None


class Health(Answer):
    """How the service is, and each of its parts."""

    status: Literal["ok", "degraded"]
    checks: dict[str, Literal["ok", "unavailable"]]
