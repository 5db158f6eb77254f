"""The search strategies: what each one takes, and the spaces that it draws its candidates from."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, SkipValidation

from app.tuning.search.models import Value
from app.tuning.search.spaces import ParamDistributions, ParamGrid, Strict

Resource = Literal["epochs", "n_samples", "folds"]
Amount = Annotated[int, Field(ge=1, le=10**6)]
Count = Annotated[int, Field(ge=1, le=10_000)]


Points = Annotated[
    list[dict[str, Annotated[Value, SkipValidation]]],
    Field(
        max_length=1000,
        description="Candidates that come first: in addition to a grid's, as part of the number that a search draws.",
    ),
]
Operand = Value | list[Value] | dict[Literal["param"], str]
Comparison = dict[Literal["eq", "ne", "lt", "le", "gt", "ge", "in"], Operand]
# Its conditions are checked against the model in `forbidden`.
Forbidden = Annotated[
    list[dict[str, Annotated[Value | Comparison, SkipValidation]]],
    Field(
        max_length=50,
        description="Combinations that are left out, each a list of conditions on complete hyperparameters that hold "
        "together: a value, or operators with a value (`in`: a list of values) or with another hyperparameter, as in "
        '`{"optimizer": "sgd", "num_neurons": {"lt": {"param": "filters"}}}`.',
    ),
]


class _Search(Strict):
    space_field: ClassVar[str]
    strategy: str

    @property
    def spaces(self) -> list[dict[str, Any]]:
        """The space, or the alternative spaces, as a list."""
        posted = getattr(self, self.space_field)
        return posted if isinstance(posted, list) else [posted]

    @property
    def learns(self) -> bool:
        """Whether a model proposes candidates by the results of earlier ones."""
        return False


class _OverGrid(_Search):
    space_field = "param_grid"
    param_grid: ParamGrid
    points_to_evaluate: Points = Field([])
    forbidden: Forbidden = Field([])


class _OverDistributions(_Search):
    space_field = "param_distributions"
    param_distributions: ParamDistributions
    points_to_evaluate: Points = Field([])
    forbidden: Forbidden = Field([])


class GridSearch(_OverGrid):
    """Every point of the grid, in the order of scikit-learn's `ParameterGrid`."""

    strategy: Literal["grid"]


class RandomSearch(_OverDistributions):
    """`n_iter` draws of scikit-learn's `ParameterSampler`."""

    strategy: Literal["random"]
    n_iter: Count = 10


class Halving(_Search):
    """Rungs: each trains the best of the one before with `factor` times the resources, as in scikit-learn."""

    resource: Resource = Field(
        "epochs", description="What grows from rung to rung: epochs, training samples, or validated folds."
    )
    max_resources: Amount | Literal["auto"] = Field(
        "auto",
        description="Of one candidate in any rung; `auto` is `fixed.epochs` or the model's default, all training "
        "samples, or all folds.",
    )
    factor: float = Field(3, gt=1, le=10_000, description="Each rung keeps one in so many candidates.")
    aggressive_elimination: bool = Field(
        False, description="Repeat the first rung until few enough candidates are left to end with `factor` or fewer."
    )
    rung_levels: list[Amount] | None = Field(
        None,
        min_length=1,
        max_length=20,
        description="The resources of each rung, increasing, in place of `min_resources` and `max_resources`.",
    )


class HalvingGridSearch(Halving, _OverGrid):
    """Successive halving over every point of the grid, row for row scikit-learn's `HalvingGridSearchCV`."""

    strategy: Literal["halving_grid"]
    min_resources: Amount | Literal["exhaust", "smallest"] = Field(
        "exhaust",
        description="Of each candidate in the first rung; `exhaust`: so many that the last rung uses the most.",
    )


class HalvingRandomSearch(Halving, _OverDistributions):
    """Successive halving over random draws, row for row scikit-learn's `HalvingRandomSearchCV`."""

    strategy: Literal["halving_random"]
    n_candidates: Count | Literal["exhaust"] = Field(
        "exhaust", description="Draws of the first rung; `exhaust`: so many that the last rung uses the most resources."
    )
    min_resources: Amount | Literal["exhaust", "smallest"] = Field(
        "smallest", description="Of each candidate in the first rung."
    )


class Hyperband(_OverDistributions):
    """Brackets of successive halving over epochs, from many candidates of few epochs to few of many."""

    strategy: Literal["hyperband"]
    resource: Literal["epochs"] = "epochs"
    min_resources: Amount = 1
    max_resources: Amount | Literal["auto"] = Field(
        "auto", description="Epochs of the last rungs; `auto` is `fixed.epochs` or the model's default."
    )
    factor: float = Field(3, gt=1, le=10_000, description="Each rung keeps one in so many candidates.")
    brackets: Count | None = Field(None, description="How many, beginning with the one of most candidates; null: all.")
    sampler: Literal["random", "tpe"] = Field(
        "random",
        description="`tpe`: once a bracket has ended, two thirds of the next one's candidates are proposed by the last "
        "accuracy of each trial so far.",
    )

    @property
    def learns(self) -> bool:
        """With `tpe`."""
        return self.sampler == "tpe"


class TpeSearch(_OverDistributions):
    """Candidates that a tree-structured Parzen estimator proposes, each by the trials before it; no point twice."""

    strategy: Literal["tpe"]
    n_iter: Count = 10
    n_startup_trials: Count = Field(10, description="Random draws, the given points included, before it proposes.")
    max_concurrent_trials: int = Field(
        4,
        ge=1,
        le=100,
        description="The window: a trial is proposed when all but this many less one of those before it have ended, "
        "whose results alone it depends on.",
    )

    @property
    def learns(self) -> bool:
        """Always."""
        return True


Search = Annotated[
    GridSearch | RandomSearch | HalvingGridSearch | HalvingRandomSearch | Hyperband | TpeSearch,
    Field(discriminator="strategy"),
]
STRATEGIES: dict[str, type[Strict]] = {
    "grid": GridSearch,
    "random": RandomSearch,
    "halving_grid": HalvingGridSearch,
    "halving_random": HalvingRandomSearch,
    "hyperband": Hyperband,
    "tpe": TpeSearch,
}
