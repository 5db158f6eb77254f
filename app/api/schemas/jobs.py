"""How clients see a job."""

from datetime import datetime
from typing import Any, Self
from uuid import UUID

from pydantic import ConfigDict, Field

from app.api.schemas.base import Accuracy, ErrorResponse, Params, ResponseModel, Score, Stored
from app.tuning.jobs.tables import ENDED_JOB, Job, JobState, State
from app.tuning.search.spec import JobSpec
from app.tuning.search.stored import UnreadableSpec, read_spec


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
    validation_score: Score
    validation_accuracy: Accuracy | None


class JobResponse(ResponseModel):
    """One search."""

    model_config = ConfigDict(title="Job")

    id: UUID
    name: Stored[str | None]
    state: Stored[JobState]
    spec: Stored[JobSpec] = Field(description="The posted job with every default filled in.")
    scoring: str | None = Field(
        description="scikit-learn's name of what `score` fields are, greater is better; null if the spec is unreadable."
    )
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
    note: str
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None

    @classmethod
    def of(cls, job: Job, best_params: Params | None) -> "JobResponse":
        """A job's response, from its row and its best trial's hyperparameters."""
        spec, error = _read(job)
        best = None
        if best_params is not None and job.best_trial is not None and job.best_score is not None:
            best = BestSoFar(
                trial=job.best_trial,
                params=best_params,
                validation_score=job.best_score,
                validation_accuracy=job.best_accuracy,
            )
        ended = job.fits_succeeded + job.fits_failed + job.fits_cancelled
        return cls(
            id=job.id,
            name=job.name,
            state=job.state,
            spec=_leave_out_facts(spec),
            scoring=spec.scoring if isinstance(spec, JobSpec) else None,
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
            labels=job.labels,
            note=job.note,
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


def _leave_out_facts(spec: Any) -> Any:
    """The spec without what is known of its data set, which has a response of its own."""
    if not isinstance(spec, JobSpec):
        return spec
    return spec.model_copy(update={"dataset": spec.dataset.model_copy(update={"facts": None})})


def _estimate_seconds_left(job: Job) -> float | None:
    if job.ended_at:
        return 0.0
    if not job.cost_done or job.state in (JobState.CANCELLING, JobState.PAUSED):
        return None
    return round(job.seconds_done / job.cost_done * job.cost_left / max(1, job.parallel_fits), 1)


class JobPage(ResponseModel):
    """A page of jobs, and the token of the next page."""

    items: list[JobResponse]
    next_page_token: str | None
