"""How clients see the data sets and models that a job can use."""

from typing import Literal

from pydantic import ConfigDict, Field

from app.api.schemas.base import ResponseModel
from app.tuning.search.models import Value
from app.tuning.search.scoring import Task


class DatasetResponse(ResponseModel):
    """A data set that a job can use."""

    model_config = ConfigDict(title="Dataset")

    name: str
    description: str
    task: Task
    train_samples: int
    test_samples: int
    shape: list[int] = Field(description="Height, width and channels of an image, in pixels; the columns of a table.")
    classes: int = Field(description="0 for regression.")
    download: bool = Field(description="Whether each worker machine downloads it once.")


class DatasetPage(ResponseModel):
    """A page of data sets, and the token of the next page."""

    items: list[DatasetResponse]
    next_page_token: str | None


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
