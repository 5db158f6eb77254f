"""How clients see the models that a job can use."""

from typing import Literal

from pydantic import ConfigDict, Field

from app.api.schemas.base import ResponseModel
from app.tuning.search.models import Value
from app.tuning.search.scoring import Task


class Hyperparameter(ResponseModel):
    """A hyperparameter: its type, bounds or choices, default and meaning."""

    name: str
    type: Literal["number", "integer", "string"] = Field(description="A `number` may have choices besides.")
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
    tasks: list[Task]
    hyperparameters: list[Hyperparameter]


class ModelPage(ResponseModel):
    """A page of models, and the token of the next page."""

    items: list[ModelResponse]
    next_page_token: str | None
