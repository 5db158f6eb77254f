"""A search that goes on beyond what was posted, with the same rows as if it had been posted so."""

from typing import Any

from pydantic import Field, model_validator

from app.tuning.search.plan import make_plan
from app.tuning.search.rejections import SpecRejected
from app.tuning.search.spaces import ParamGrid, Strict
from app.tuning.search.spec import JobSpec
from app.tuning.search.strategies import (
    Amount,
    Count,
    GridSearch,
    HalvingGridSearch,
    HalvingRandomSearch,
    RandomSearch,
    TpeSearch,
)

POST_AGAIN = "post it as a new job: equal fits are not trained again"


class Extension(Strict):
    """Exactly one of these: more draws of a random search, a larger grid, or further rungs of a halving search."""

    n_iter: Count | None = Field(None, description="Of a random or TPE search: how many trials in all.")
    param_grid: ParamGrid | None = Field(None, description="Of a grid search: the whole grid, the old points in it.")
    max_resources: Amount | None = Field(None, description="Of a halving search: of the last rung.")

    @model_validator(mode="after")
    def has_exactly_one(self) -> "Extension":
        """Reject none and several."""
        if len(self.model_fields_set & set(type(self).model_fields)) != 1 or None in self.changes().values():
            raise ValueError("give exactly one of n_iter, param_grid and max_resources")
        return self

    def changes(self) -> dict[str, Any]:
        """What is posted, as the search's own field."""
        return {
            name: value
            for name, value in self.model_dump(mode="json", warnings=False).items()
            if name in self.model_fields_set
        }


def extend_spec(spec: JobSpec, extension: Extension) -> JobSpec:
    """The job as if it had been posted with the extension.

    Raises:
        SpecRejected: it is none of this search, or the rows would not be the same.
    """
    [(field, value)] = extension.changes().items()
    kinds = {
        "n_iter": RandomSearch | TpeSearch,
        "param_grid": GridSearch,
        "max_resources": HalvingGridSearch | HalvingRandomSearch,
    }
    if not isinstance(spec.search, kinds[field]):
        _reject(field, f"{field} does not extend the strategy {spec.search.strategy!r}")
    if spec.race:
        _reject(field, f"a race would have been another one from its start: {POST_AGAIN}")
    if isinstance(spec.search, RandomSearch) and all(
        isinstance(space, list) for one in spec.search.spaces for space in one.values()
    ):
        _reject(field, f"draws from lists alone depend on their number: {POST_AGAIN}")
    document = spec.model_dump(mode="json")
    return JobSpec.model_validate({**document, "search": {**document["search"], field: value}})


def check_plan(old: JobSpec, new: JobSpec, candidates: int, before: int) -> None:
    """Whether the rungs of the extended job begin with those of the job.

    Raises:
        SpecRejected: they do not, or there are no more of them.
    """
    was, will = make_plan(old, before), make_plan(new, candidates)
    if candidates != before or will[: len(was)] != was or len(will) == len(was):
        levels = ", ".join(str(rung.n_resources) for rung in was)
        following = int(was[-1].n_resources * getattr(old.search, "factor", 3))
        _reject(
            "max_resources",
            f"the rungs {levels} would not go on: with min_resources {was[0].n_resources} as a number the next level "
            f"is {following}; otherwise {POST_AGAIN}",
        )


def _reject(field: str, message: str) -> None:
    raise SpecRejected([((field,), message)])
