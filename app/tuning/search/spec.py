"""The posted job: one pydantic model as request body, stored column and domain object."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, cast
from uuid import UUID

from pydantic import (
    BaseModel,
    Discriminator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    SkipValidation,
    Tag,
    model_validator,
)
from pydantic.config import JsonDict
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from app.tuning.search.datasets import DATASETS, Dataset
from app.tuning.search.models import Model, Value
from app.tuning.search.own_networks import LayerList, make_network
from app.tuning.search.registry import MODELS
from app.tuning.search.scoring import DEFAULT_SCORING, SCORERS, Scorer, Scoring, Task
from app.tuning.search.spaces import Strict
from app.tuning.search.strategies import Halving, Hyperband, Search

NAME = r"^[A-Za-z0-9](?:[A-Za-z0-9_-]{0,62}[A-Za-z0-9])?$"
Name = Annotated[
    str, Field(pattern=NAME, max_length=64, description="Letters and digits; `-` and `_` except at the ends.")
]


MAX_SAMPLES = 5_000_000


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

    name: Name = "mnist"
    train_samples: int | None = Field(None, ge=1, le=MAX_SAMPLES)
    test_samples: int | None = Field(None, ge=1, le=MAX_SAMPLES)
    sha256: str | None = Field(
        None,
        pattern="^[0-9a-f]{64}$",
        exclude_if=lambda sha256: sha256 is None,
        description="Of an own data set's content; filled in when the job is posted. Built-in data sets have none.",
    )
    # What is known of an own data set, stored with the job so that it needs no lookup; clients do not see it.
    facts: SkipJsonSchema[Dataset | None] = Field(None, exclude_if=lambda facts: facts is None)


class LosslessRace(Strict):
    """A trial is out once it could not win even with the greatest score that there can be on each remaining fold."""

    method: Literal["lossless"]
    burn_in: int = Field(1, ge=1, le=10, description="Folds that every trial is trained on.")


class BootstrapRace(Strict):
    """A trial is out once it would hardly win: in fewer than a share `alpha` of bootstrap samples of validated rows."""

    method: Literal["bootstrap"]
    alpha: float = Field(0.01, gt=0, lt=0.5)
    burn_in: int = Field(1, ge=1, le=10, description="Folds that every trial is trained on.")


Race = Annotated[LosslessRace | BootstrapRace, Field(discriminator="method")]


SCORING = Field(
    None,
    description="scikit-learn's name of what a model is scored by, greater is better; null: `accuracy`, or `r2` for "
    "regression.",
)


class Refitted(Strict):
    """What both kinds of evaluation have in common."""

    refit: bool = True
    keep_model: bool = Field(
        True, description="Whether the refit's model can be fetched; without a refit there is none, and this is false."
    )

    @model_validator(mode="before")
    @classmethod
    def keep_nothing_without_a_refit(cls, posted: Any) -> Any:
        """The default depends on `refit`."""
        return {"keep_model": False, **posted} if isinstance(posted, dict) and posted.get("refit") is False else posted


class CrossValidation(Refitted):
    """`cv` folds, unshuffled and, but for regression, stratified.

    With `refit` the best trial is trained on all samples and tested once.
    """

    cv: int = Field(3, ge=2, le=10)
    repeats: int = Field(1, ge=1, le=10, description="Trainings on each fold, each with another seed.")
    race: Race | None = Field(
        None, description="Spares the remaining folds of trials that cannot win; null: every trial gets all folds."
    )
    select: Literal["best", "one_standard_error"] = Field(
        "best", description="The winner: the best, or the cheapest within one standard error of it."
    )
    scoring: Scoring | None = SCORING


class Holdout(Refitted):
    """Validation on the last share of the training samples, like Keras's `validation_split`."""

    validation_split: float = Field(gt=0, lt=1)
    scoring: Scoring | None = SCORING


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
    reuse: bool = Field(True, description="Whether the results of equal fits that have been trained are used again.")
    max_failed_trials: int | None = Field(
        None, ge=0, le=10_000, description="The job fails once more trials than this have failed."
    )
    max_epochs_trained: int | None = Field(
        None,
        ge=1,
        description="Epochs of all fits and the refit, each counted once: a random or TPE search has only as many "
        "trials as fit in, any other search that needs more is rejected.",
    )


class WarmStart(Strict):
    """Ended jobs with the same data set, model and evaluation, whose trials a model learns from."""

    jobs: list[Annotated[UUID, Field(strict=False)]] = Field(min_length=1, max_length=10)


def _without_default(schema: JsonDict) -> None:
    del schema["default"]


def _as_additional_properties(schema: JsonDict) -> None:
    """State a dictionary whose keys match a pattern in a way that client generators understand."""
    [(pattern, value)] = cast(JsonDict, schema.pop("patternProperties")).items()
    schema["additionalProperties"] = value
    schema["propertyNames"] = {**cast(JsonDict, schema["propertyNames"]), "pattern": pattern}


Labels = Annotated[dict[Name, Name], Field(max_length=16, json_schema_extra=_as_additional_properties)]


def _kind_of_model(value: Any) -> str | None:
    if isinstance(value, str):
        return "name"
    return "LayerList" if isinstance(value, dict | LayerList) else None


ModelSpec = Annotated[
    Annotated[str, NameIn(MODELS), Tag("name")] | Annotated[LayerList, Tag("LayerList")],
    Discriminator(
        _kind_of_model,
        custom_error_type="model",
        custom_error_message='Input should be the name of a model or {"layers": a list of layers}',
    ),
]


class JobSpec(Strict):
    """A search as a client posts it."""

    name: Name | None = None
    dataset: DatasetSpec = DatasetSpec()
    model: ModelSpec = "cnn"
    search: Search
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
    warm_start: WarmStart | None = Field(
        None, description="Of a search by TPE: what it knows from the start, as it was when the job was posted."
    )
    limits: Limits = Limits()
    labels: Labels = Field({})

    @property
    def model_class(self) -> type[Model]:
        """The model: a registered one, or that of the job's own layers."""
        return make_network(self.model) if isinstance(self.model, LayerList) else MODELS[self.model]

    @property
    def folds(self) -> int:
        """Fits per trial, without the refit."""
        return self.evaluation.cv * self.evaluation.repeats if isinstance(self.evaluation, CrossValidation) else 1

    @property
    def repeats(self) -> int:
        """Trainings on each fold."""
        return self.evaluation.repeats if isinstance(self.evaluation, CrossValidation) else 1

    @property
    def select(self) -> str:
        """How the winner is chosen."""
        return self.evaluation.select if isinstance(self.evaluation, CrossValidation) else "best"

    @property
    def task(self) -> Task:
        """What is learned: classes, or a number."""
        return self.data.task

    @property
    def scoring(self) -> Scoring:
        """What fits are scored by."""
        return self.evaluation.scoring or DEFAULT_SCORING[self.task]

    @property
    def scorer(self) -> Scorer:
        """What is known of the scoring."""
        return SCORERS[self.scoring]

    @property
    def race(self) -> LosslessRace | BootstrapRace | None:
        """How trials race, or None."""
        return self.evaluation.race if isinstance(self.evaluation, CrossValidation) else None

    @property
    def resource(self) -> str | None:
        """What grows from rung to rung; None for a search that trains every candidate to the end."""
        return self.search.resource if isinstance(self.search, Halving | Hyperband) else None

    @property
    def is_adaptive(self) -> bool:
        """Whether what is trained depends on the results of what was trained before."""
        return bool(self.race or self.resource) or self.search.learns

    @property
    def max_epochs(self) -> int:
        """The epochs of a fit that has not fewer; 1 for a model that has none."""
        fixed, fields = self.fixed.get("epochs"), self.model_class.model_fields
        if isinstance(fixed, int) or "epochs" not in fields:
            return fixed if isinstance(fixed, int) else 1
        return int(fields["epochs"].default)

    @property
    def data(self) -> Dataset:
        """What is known of the data set."""
        return self.dataset.facts or DATASETS[self.dataset.name]

    @property
    def train_samples(self) -> int:
        """Samples of the training set that the job uses."""
        return self.dataset.train_samples or self.data.train_samples

    @property
    def test_samples(self) -> int:
        """Samples of the test set that the job uses."""
        return self.dataset.test_samples or self.data.test_samples

    @property
    def train_share(self) -> float:
        """The share of the training samples that a fold's fit trains on; the refit uses all of them."""
        if isinstance(self.evaluation, CrossValidation):
            return (self.evaluation.cv - 1) / self.evaluation.cv
        return 1 - self.evaluation.validation_split

    def hyperparameters(self, params: Mapping[str, Value], n_resources: int | None = None) -> dict[str, Value]:
        """A candidate's complete hyperparameters: its rung's epochs, searched, fixed, then the model's defaults.

        Those that an own network's depth does not use are not among them.
        """
        own = {"epochs": n_resources} if self.resource == "epochs" and n_resources else {}
        return self.model_class.model_validate({**self.fixed, **params, **own}).model_dump(exclude_none=True)

    def fill(self, params: Mapping[str, Value]) -> dict[str, Value]:
        """A point's complete hyperparameters, unchecked: they may not be possible together."""
        fields = self.model_class.model_fields
        defaults = {name: field.default for name, field in fields.items() if field.default is not None}
        return {**defaults, **self.fixed, **params}
