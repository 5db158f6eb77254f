"""Which hyperparameters of a job matter."""

from collections import OrderedDict
from typing import Annotated, Literal, Self
from uuid import UUID

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from app.api.columns import describe_columns
from app.api.dependencies import Database, get_job_or_404
from app.api.jobs import KnownTags, respond_unless_known
from app.api.openapi import describe_problems
from app.api.schemas.base import ResponseModel
from app.api.strict_json import StrictRoute
from app.tuning.database import reading
from app.tuning.jobs.scores import FoldScores, Measure, read_scores
from app.tuning.search.importance import Effect, Importance, measure_importance

MAX_KNOWN = 64
_known: OrderedDict[tuple[UUID, int, str], str] = OrderedDict()  # a job's version says all, so none is ever wrong
router = APIRouter(
    prefix="/v1/jobs", tags=["jobs"], route_class=StrictRoute, responses=describe_problems(413, 421, 422, 500, 503)
)


class ImportanceQuery(BaseModel):
    """What hyperparameters matter for."""

    model_config = ConfigDict(extra="forbid")

    of: Measure = "validation_score"


class VarianceShare(ResponseModel):
    """A share of the variance."""

    share: float = Field(description="0 to 1.")
    low: float | None = Field(description="Lower end of the 95% bootstrap interval; null with a single fold.")
    high: float | None


class EffectResponse(VarianceShare):
    """What a hyperparameter explains."""

    model_config = ConfigDict(title="Effect")

    name: str


class PairEffect(VarianceShare):
    """What a pair of hyperparameters explains together, beyond what each of the two does."""

    names: list[str]


class ImportanceResponse(ResponseModel):
    """The importance of a job's hyperparameters; null, with the reason, while too little is known."""

    model_config = ConfigDict(title="Importance")

    version: int
    of: Measure
    trials: int = Field(description="That it is computed from: those with a score on all folds.")
    n_resources: int | None = Field(description="The rung's, that they are compared in; null without rungs.")
    method: Literal["exact", "ped_anova"] | None = Field(
        description="`exact` on a full grid: shares of the variance of the means, and the interval is of resampled "
        "folds. `ped_anova` else: what sets the best tenth apart, and the interval is of resampled trials."
    )
    importance: list[EffectResponse] | None = Field(description="Each hyperparameter's, the largest first.")
    pairs: list[PairEffect] | None = Field(description="Each pair's; null unless the method is `exact`.")
    noise: float | None = Field(
        description="VarianceShare of the variance that is the folds' scatter; null unless `exact` with several folds."
    )
    reason: str | None = Field(description="Why there is none.")

    @classmethod
    def of_scores(cls, version: int, of: Measure, scores: FoldScores) -> Self:
        """Measure the importance."""
        found = measure_importance(scores.params, scores.table, scores.spaces)
        known = found if isinstance(found, Importance) else None
        return cls(
            version=version,
            of=of,
            trials=len(scores.params),
            n_resources=scores.n_resources,
            method=known and known.method,
            importance=known and [EffectResponse(name=one.names[0], **_show(one)) for one in known.effects],
            pairs=known and known.pairs and [PairEffect(names=[*one.names], **_show(one)) for one in known.pairs],
            noise=known and known.noise,
            reason=found if isinstance(found, str) else None,
        )


def _show(effect: Effect) -> dict[str, float | None]:
    return {"share": effect.share, "low": effect.low, "high": effect.high}


@router.get(
    "/{job_id}/importance",
    response_model=ImportanceResponse,
    responses=describe_columns("The importance of each hyperparameter."),
)
def show_importance(
    job_id: UUID, query: Annotated[ImportanceQuery, Query()], database: Database, known: KnownTags
) -> Response:
    """What share of the variance of the scores, or of the seconds, each hyperparameter explains."""
    with reading(database) as session:
        job = get_job_or_404(session, job_id)
        key = (job.id, job.version, query.of)
        text = _known.get(key)
        scores = None if text else read_scores(session, job, query.of)
    if scores:
        text = _known[key] = ImportanceResponse.of_scores(job.version, query.of, scores).model_dump_json()
        while len(_known) > MAX_KNOWN:
            _known.popitem(last=False)
    return respond_unless_known(job, known, lambda: text or "")
