"""The posted job: one pydantic model as request body, stored column and domain object."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, cast

import numpy as np
from numpy.random import RandomState
from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    SkipValidation,
    Tag,
    model_validator,
)
from pydantic.config import JsonDict
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from app.tuning.search.datasets import DATASETS
from app.tuning.search.models import MODELS, Value

NAME = r"^[A-Za-z0-9](?:[A-Za-z0-9_-]{0,62}[A-Za-z0-9])?$"
Name = Annotated[
    str, Field(pattern=NAME, max_length=64, description="Letters and digits; `-` and `_` except at the ends.")
]


class Strict(BaseModel):
    """Rejects unknown fields, wrong types, NaN and Infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class NameIn:
    """Marks a string that must be a name in a registry, looked up at validation."""

    def __init__(self, registry: Mapping[str, Any]) -> None:
        self._registry = registry

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self._check, serialization=core_schema.to_string_ser_schema()
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        names = list(self._registry)
        return {"type": "string", **({"enum": names} if len(names) > 1 else {"const": names[0]})}

    def _check(self, name: Any) -> str:
        if isinstance(name, str) and name in self._registry:
            return name
        *names, last = (repr(known) for known in self._registry)
        expected = f"{', '.join(names)} or {last}" if names else last
        raise PydanticCustomError("literal_error", "Input should be {expected}", {"expected": expected})


class DatasetSpec(Strict):
    """The data set, and how many of its first samples to use: null for all."""

    name: Annotated[str, NameIn(DATASETS)] = "mnist"
    train_samples: int | None = Field(None, ge=1, le=60_000)
    test_samples: int | None = Field(None, ge=1, le=10_000)


# scikit-learn's sampler calls `rvs`. The formulas give scipy's draws bit for bit (a test compares them), fifty times
# faster than a frozen scipy distribution.


class ScaledUniform(Strict):
    """Uniform from `loc` to `loc + scale`, scipy's parameters."""

    distribution: Literal["uniform"]
    loc: float
    scale: float = Field(gt=0)

    @property
    def support(self) -> tuple[float, float]:
        return self.loc, self.loc + self.scale

    def rvs(self, random_state: RandomState) -> float:
        return float(random_state.uniform() * self.scale + self.loc)


class _Between(Strict):
    low: float
    high: float

    @model_validator(mode="after")
    def low_is_below_high(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"low {self.low} must be less than high {self.high}")
        return self

    @property
    def support(self) -> tuple[float, float]:
        return self.low, self.high


class Uniform(_Between):
    """Uniform from `low` to `high`."""

    distribution: Literal["uniform"]

    def rvs(self, random_state: RandomState) -> float:
        return float(random_state.uniform() * (self.high - self.low) + self.low)


class LogUniform(_Between):
    """Log-uniform from `low` to `high`; scipy's other name for it is `reciprocal`."""

    distribution: Literal["loguniform", "reciprocal"]
    low: float = Field(gt=0)

    def rvs(self, random_state: RandomState) -> float:
        low, high = np.log(self.low), np.log(self.high)
        return float(np.exp(low + random_state.uniform() * (high - low)))


class RandInt(_Between):
    """Integers from `low` to `high`, `high` excluded."""

    distribution: Literal["randint"]
    low: int = Field(ge=-(2**53), le=2**53)
    high: int = Field(ge=-(2**53), le=2**53)

    @property
    def support(self) -> tuple[float, float]:
        return self.low, self.high - 1

    def rvs(self, random_state: RandomState) -> int:
        return int(random_state.randint(self.low, self.high))


Distribution = ScaledUniform | Uniform | LogUniform | RandInt
# Values are checked against the model's types and bounds in `candidates`.
Values = Annotated[list[Annotated[Value, SkipValidation]], Field(min_length=1)]


def _kind_of_space(space: Any) -> str | None:
    if isinstance(space, list):
        return "list"
    if isinstance(space, BaseModel):
        return type(space).__name__
    distribution = space.get("distribution") if isinstance(space, dict) else None
    if distribution == "uniform":
        return "ScaledUniform" if {"loc", "scale"} & set(space) else "Uniform"
    kinds = {"loguniform": "LogUniform", "reciprocal": "LogUniform", "randint": "RandInt"}
    return kinds.get(distribution) if isinstance(distribution, str) else None


Space = Annotated[
    Annotated[Values, Tag("list")]
    | Annotated[ScaledUniform, Tag("ScaledUniform")]
    | Annotated[Uniform, Tag("Uniform")]
    | Annotated[LogUniform, Tag("LogUniform")]
    | Annotated[RandInt, Tag("RandInt")],
    Discriminator(
        _kind_of_space,
        custom_error_type="space",
        custom_error_message="Input should be a list of values or an object whose `distribution` is 'uniform' (loc and "
        "scale, or low and high), 'loguniform', 'reciprocal' or 'randint' (low and high)",
    ),
]


def _one_or_many(value: Any) -> str | None:
    return "one" if isinstance(value, dict) else "many" if isinstance(value, list) else None


_NEITHER = {
    "custom_error_type": "one_or_many",
    "custom_error_message": "Input should be an object that maps names to values, or a list of such objects",
}
Grid = dict[str, Values]
ParamGrid = Annotated[
    Annotated[Grid, Tag("one")] | Annotated[list[Grid], Field(min_length=1), Tag("many")],
    Discriminator(_one_or_many, **_NEITHER),
]
Spaces = dict[str, Space]
ParamDistributions = Annotated[
    Annotated[Spaces, Tag("one")] | Annotated[list[Spaces], Field(min_length=1), Tag("many")],
    Discriminator(_one_or_many, **_NEITHER),
]


class GridSearch(Strict):
    """Every point of the grid, in the order of scikit-learn's `ParameterGrid`."""

    strategy: Literal["grid"]
    param_grid: ParamGrid


class RandomSearch(Strict):
    """`n_iter` draws of scikit-learn's `ParameterSampler`."""

    strategy: Literal["random"]
    param_distributions: ParamDistributions
    n_iter: int = Field(10, ge=1, le=10_000)


class CrossValidation(Strict):
    """`cv` stratified folds, unshuffled; with `refit` the best trial is trained on all samples and tested once."""

    cv: int = Field(3, ge=2, le=10)
    refit: bool = True


class Holdout(Strict):
    """Validation on the last share of the training samples, like Keras's `validation_split`."""

    validation_split: float = Field(gt=0, lt=1)
    refit: bool = True


def _kind_of_evaluation(value: Any) -> str | None:
    if isinstance(value, BaseModel):
        return type(value).__name__
    if not isinstance(value, dict):
        return None
    return "Holdout" if "validation_split" in value else "CrossValidation"


Evaluation = Annotated[
    Annotated[CrossValidation, Tag("CrossValidation")] | Annotated[Holdout, Tag("Holdout")],
    Discriminator(
        _kind_of_evaluation,
        custom_error_type="evaluation",
        custom_error_message='Input should be {"cv": 2 to 10} or {"validation_split": between 0 and 1}',
    ),
]


class Limits(Strict):
    """Limits of a job; null is no limit."""

    max_parallel_fits: int | None = Field(None, ge=1, le=10_000, description="Fits trained at the same time.")
    fit_timeout_seconds: float = Field(3600, gt=0, le=7 * 24 * 3600, description="A fit that takes longer fails.")
    max_failed_trials: int | None = Field(
        None, ge=0, le=10_000, description="The job fails once more trials than this have failed."
    )


def _without_default(schema: JsonDict) -> None:
    del schema["default"]


def _as_additional_properties(schema: JsonDict) -> None:
    """State a dictionary whose keys match a pattern in a way that client generators understand."""
    [(pattern, value)] = cast(JsonDict, schema.pop("patternProperties")).items()
    schema["additionalProperties"] = value
    schema["propertyNames"] = {**cast(JsonDict, schema["propertyNames"]), "pattern": pattern}


class JobSpec(Strict):
    """A search as a client posts it."""

    name: Name | None = None
    dataset: DatasetSpec = DatasetSpec()
    model: Annotated[str, NameIn(MODELS)] = "cnn"
    search: Annotated[GridSearch | RandomSearch, Field(discriminator="strategy")]
    fixed: dict[str, Annotated[Value, SkipValidation]] = Field(
        {}, description="Hyperparameters that are not searched; all others have the model's defaults."
    )
    # Client generators drop a union whose default is an object, so the default is in the description only.
    evaluation: Evaluation = Field(
        CrossValidation(),
        description='Default: three stratified folds and a refit, `{"cv": 3, "refit": true}`.',
        json_schema_extra=_without_default,
    )
    random_state: int = Field(0, ge=0, le=2**32 - 1)
    limits: Limits = Limits()
    labels: dict[Name, Name] = Field({}, max_length=16, json_schema_extra=_as_additional_properties)

    @property
    def folds(self) -> int:
        """Fits per trial, without the refit."""
        return self.evaluation.cv if isinstance(self.evaluation, CrossValidation) else 1

    @property
    def train_samples(self) -> int:
        """Samples of the training set that the job uses."""
        return self.dataset.train_samples or DATASETS[self.dataset.name].train_samples

    @property
    def test_samples(self) -> int:
        """Samples of the test set that the job uses."""
        return self.dataset.test_samples or DATASETS[self.dataset.name].test_samples

    @property
    def train_share(self) -> float:
        """The share of the training samples that a fold's fit trains on; the refit uses all of them."""
        if isinstance(self.evaluation, CrossValidation):
            return (self.evaluation.cv - 1) / self.evaluation.cv
        return 1 - self.evaluation.validation_split

    def hyperparameters(self, params: Mapping[str, Value]) -> dict[str, Value]:
        """A candidate's complete hyperparameters: searched, then fixed, then the model's defaults."""
        return MODELS[self.model].model_validate({**self.fixed, **params}).model_dump()
