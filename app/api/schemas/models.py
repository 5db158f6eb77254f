"""How clients see the model that a job keeps, and what it predicts."""

from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from app.api.schemas.base import Params, ResponseModel, Stored
from app.api.schemas.results import Environment, Test


class ModelFormat(ResponseModel):
    """One file of the model."""

    format: str
    bytes: int
    sha256: str
    href: str = Field(description="Where it is fetched.")
    is_program: bool = Field(
        description="Whether loading it runs what is in it: load it only if you trust the service that made it."
    )


class ModelInputResponse(ResponseModel):
    """What the model takes: an array of samples, each of this shape."""

    shape: list[int]
    dtype: str
    scaling: str


class ModelManifest(ResponseModel):
    """The refitted best trial as files."""

    job_id: UUID
    trial: int
    params: Params
    formats: list[ModelFormat]
    left_out: dict[str, str] = Field(description="By format, why there is no such file.")
    input: ModelInputResponse
    output: str = Field(description="What the model returns for each sample.")
    class_names: list[str] | None = Field(description="By the number of the class; null for regression.")
    test: Test | None = Field(description="What the model scored on the test set.")
    environment: Stored[Environment | None]


class PredictionRequest(BaseModel):
    """Samples to predict."""

    model_config = ConfigDict(extra="forbid")

    instances: list[Any] = Field(min_length=1, description="Samples of the shape that the manifest's `input` says.")


class Prediction(ResponseModel):
    """What the model says of one sample."""

    class_number: int | None = Field(None, description="Null for regression, as the next two.")
    class_name: str | None = None
    probabilities: list[float] | None = Field(None, description="By class; null where the model gives none.")
    value: float | None = Field(None, description="Of regression.")


class PredictionResponse(ResponseModel):
    """A prediction for each sample, in order."""

    predictions: list[Prediction]
