"""`POST /v1/preview`: what a job would come to, with nothing written."""

from typing import Self

from fastapi import APIRouter
from pydantic import ConfigDict, Field

from app.api.dependencies import Database
from app.api.jobs import take_turns
from app.api.openapi import describe_problems, describe_response
from app.api.schemas.base import ResponseModel
from app.api.schemas.jobs import RungResponse
from app.api.strict_json import StrictRoute
from app.api.threads import in_writer_thread
from app.tuning.database import reading
from app.tuning.jobs import datasets, queries
from app.tuning.jobs.reuse import count_equal_fits
from app.tuning.jobs.tables import State
from app.tuning.jobs.warm_start import read_warm_points
from app.tuning.search.candidates import draw_candidates
from app.tuning.search.models import Value
from app.tuning.search.preview import Preview, make_preview
from app.tuning.search.spec import JobSpec

router = APIRouter(
    prefix="/v1", tags=["jobs"], route_class=StrictRoute, responses=describe_problems(403, 413, 415, 421, 422, 500, 503)
)


class InfeasibleCandidate(ResponseModel):
    """A candidate that the model cannot be built with, and why."""

    params: dict[str, Value]
    reason: str


class Infeasible(ResponseModel):
    """How many candidates the model cannot be built with, and the first ten."""

    count: int
    first: list[InfeasibleCandidate]


class SecondsRange(ResponseModel):
    """Seconds of one worker, at the speed of the fastest and of the slowest of the latest jobs with this model."""

    low: float
    high: float

    @classmethod
    def of(cls, multiply_adds: float, speeds: list[float]) -> Self | None:
        """From seconds per multiply-add; None if there are none."""
        return cls(low=multiply_adds * min(speeds), high=multiply_adds * max(speeds)) if speeds else None


class PreviewResponse(ResponseModel):
    """What a job would come to; the figures of training are without races and without equal fits of other jobs."""

    model_config = ConfigDict(title="Preview")

    trials: int
    fits: int = Field(description="Of all rungs, and the refit.")
    duplicates: int = Field(description="Candidates with the same complete hyperparameters as an earlier one.")
    skipped: int = Field(description="Forbidden points that are left out, or drawn again.")
    infeasible: Infeasible = Field(description="None: a job with such a candidate is rejected, here as by POST.")
    rungs: list[RungResponse] = Field(description="Of a halving or hyperband search; empty for other searches.")
    epochs: int = Field(description="Trained in all, if each rung goes on from the checkpoints of the one below.")
    epochs_at_most: int = Field(description="The same without checkpoints.")
    multiply_adds: float
    seconds: SecondsRange | None = Field(description="Null while no job with this model has been measured.")
    cached_fits: int | None = Field(
        description="Fits of first rungs that equal ones in the database, if machines like those before train; "
        "null: no job with this data has been trained yet."
    )
    checkpoint_bytes: int | None = Field(
        description="At most, of the checkpoints that later rungs go on from; null if the model does not tell."
    )
    supports: list[dict[str, str]] = Field(description="What each hyperparameter is drawn from, of each space.")
    first: list[dict[str, Value]] = Field(description="The first ten candidates.")

    @classmethod
    def of(cls, preview: Preview, speeds: list[float], cached_fits: int | None) -> Self:
        rungs = [RungResponse(**rung._asdict(), state=State.QUEUED) for rung in preview.rungs]
        return cls(
            **{name: value for name, value in preview._asdict().items() if name != "rungs"},
            rungs=rungs,
            infeasible=Infeasible(count=0, first=[]),
            seconds=SecondsRange.of(preview.multiply_adds, speeds),
            cached_fits=cached_fits,
        )


@router.post("/preview", responses=describe_response(200, "What the job would come to."))
@in_writer_thread
def preview_job(spec: JobSpec, database: Database) -> PreviewResponse:
    """Check a job and see its size and first candidates; nothing is written. It is rejected as by `POST /v1/jobs`."""
    with reading(database) as session:
        spec = datasets.resolve_dataset(session, spec)
    with take_turns(spec):
        candidates = draw_candidates(spec)
        preview = make_preview(spec, candidates)
        with reading(database) as session:
            read_warm_points(session, spec)  # rejected as by a POST
            cached_fits = count_equal_fits(session, spec, candidates)
            return PreviewResponse.of(preview, queries.find_speeds(session, spec), cached_fits)
