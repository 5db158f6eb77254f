"""What a search draws from: lists of values and distributions, alone or as a list of alternatives."""

from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.random import RandomState
from pydantic import BaseModel, ConfigDict, Discriminator, Field, SkipValidation, Tag, model_validator

from app.tuning.search.models import Value


class Strict(BaseModel):
    """Rejects unknown fields, wrong types, NaN and Infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


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


MAX_VALUES = 10  # of a list, in a description


def describe_space(space: list[Value] | Distribution) -> str:
    """What is drawn, in words."""
    if isinstance(space, list):
        shown = [str(value) for value in space[:MAX_VALUES]] + ["…"] * (len(space) > MAX_VALUES)
        return f"one of {len(space):,}: {', '.join(shown)}" if space[1:] else shown[0]
    low, high = space.support
    if isinstance(space, RandInt):
        return f"a whole number from {low} to {high}"
    scale = ", uniform in its logarithm" if isinstance(space, LogUniform) else ""
    return f"a real number from {low:.12g} to {high:.12g}{scale}"


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
