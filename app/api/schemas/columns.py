"""How clients see trials and attempts as columns: the lists of an object are of equal length."""

from datetime import datetime

from pydantic import Field

from app.api.schemas.base import Accuracy, ResponseModel, Score, Stored
from app.tuning.jobs.tables import Outcome, State
from app.tuning.search.models import Value


class TrialColumns(ResponseModel):
    """Trials, by their numbers."""

    version: int = Field(description="Of the job: `since` of the next request.")
    number: list[int]
    state: list[Stored[State]]
    validation_score: list[Score | None]
    validation_score_std: list[float | None]
    validation_accuracy: list[Accuracy | None]
    validation_accuracy_std: list[float | None]
    rank: list[int | None] = Field(
        description="Among all trials. With `since` it follows from `n_resources` and `validation_score` that the "
        "ranks of trials which have not changed have moved."
    )
    fit_seconds: list[float | None]
    bracket: list[int]
    iter: list[int] = Field(description="The highest rung that each has reached, from 0.")
    n_resources: list[int | None] = Field(description="Of that rung; null in a search without rungs.")
    params: dict[str, list[Value | None]] = Field(
        description="Each searched hyperparameter; null where a trial has none of that name."
    )


class AttemptColumns(ResponseModel):
    """Attempts at fits, those that came to nothing too."""

    version: int = Field(description="Of the job: `since` of the next request.")
    fit: list[int] = Field(description="Its ID; with `attempt` it names the row, whatever else changes.")
    trial: list[int | None] = Field(description="Null for a refit whose winner is not known any more.")
    fold: list[int | None] = Field(description="Null for the refit.")
    bracket: list[int]
    iter: list[int]
    worker: list[str]
    attempt: list[int] = Field(description="From 1 in each fit.")
    outcome: list[Stored[Outcome] | None] = Field(description="Null while it is trained.")
    start: list[datetime]
    end: list[datetime | None]
    reason: list[str | None] = Field(description="Why it failed or was lost, in a line.")
