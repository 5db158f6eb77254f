"""How a posted job is rejected: where in it, and what is expected there."""

from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import ValidationError

from app.tuning.search.models import Model, check_value

MAX_REJECTIONS = 10
Where = tuple[str | int, ...]  # a path in the posted job
Rejection = tuple[Where, str]  # and what is expected there


class SpecRejected(Exception):
    """The job cannot run as posted."""

    def __init__(self, rejections: list[Rejection]) -> None:
        super().__init__("; ".join(message for _, message in rejections))
        self.rejections = rejections


def raise_if_rejected(rejections: Iterable[Rejection]) -> None:
    """Raise `SpecRejected` with the first `MAX_REJECTIONS`, if there are any."""
    some = [rejection for rejection, _ in zip(rejections, range(MAX_REJECTIONS), strict=False)]
    if some:
        raise SpecRejected(some)


def reject_value(model: type[Model], where: Where, name: str, value: Any) -> Iterator[Rejection]:
    """What is wrong with a hyperparameter's name or value, if anything."""
    if name not in model.model_fields:
        yield where, f"Unknown hyperparameter of {model.name}; expected one of {', '.join(sorted(model.model_fields))}"
        return
    try:
        check_value(model, name, value)
    except ValidationError as error:
        messages = [one["msg"] for one in error.errors(include_input=False)]
        yield where, messages[0 if isinstance(value, str) else -1]  # of a choice, or of a number besides
