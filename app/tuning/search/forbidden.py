"""Forbidden combinations: what a search leaves out, such as more neurons than filters with one optimizer.

`search.forbidden` is a list of conjunctions. A point is forbidden if all conditions of one of them hold for its
complete hyperparameters: searched, fixed and defaults.
"""

import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from app.tuning.search.models import Value
from app.tuning.search.rejections import Rejection, Where, reject_value
from app.tuning.search.spec import JobSpec

ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
}
OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    **ORDERS,
    "in": lambda value, choices: value in choices,
}
LARGEST = 1e300  # of a number in a comparison


class Condition(NamedTuple):
    """`holds(value of name, operand)`; the operand is another hyperparameter's value where `other` names one."""

    name: str
    holds: Callable[[Any, Any], bool]
    operand: Any
    other: str | None


def check_forbidden(spec: JobSpec) -> Iterator[Rejection]:
    """What is wrong with `search.forbidden`; where it is right, the given points that it forbids."""
    wrong = False
    for index, conjunction in enumerate(spec.search.forbidden):
        for rejection in _check_conjunction(spec, ("search", "forbidden", index), conjunction):
            wrong = True
            yield rejection
    if not wrong:
        conjunctions = compile_forbidden(spec)
        for index, point in enumerate(spec.search.points_to_evaluate):
            if is_forbidden(conjunctions, spec.fill(point)):
                yield ("search", "points_to_evaluate", index), "`forbidden` forbids this point: leave out one of them"


def compile_forbidden(spec: JobSpec) -> list[list[Condition]]:
    """The conjunctions of a checked job, each as a list of conditions."""
    return [
        [
            _compile(name, sign, operand)
            for name, posted in conjunction.items()
            for sign, operand in (posted if isinstance(posted, dict) else {"eq": posted}).items()
        ]
        for conjunction in spec.search.forbidden
    ]


def is_forbidden(conjunctions: list[list[Condition]], params: Mapping[str, Value]) -> bool:
    """Whether all conditions of any conjunction hold for the complete hyperparameters."""
    return any(all(_holds(condition, params) for condition in conditions) for conditions in conjunctions)


def _compile(name: str, sign: str, operand: Any) -> Condition:
    other = operand["param"] if isinstance(operand, dict) else None
    return Condition(name, OPERATORS[sign], frozenset(operand) if sign == "in" else operand, other)


def _holds(condition: Condition, params: Mapping[str, Value]) -> bool:
    """Not for a hyperparameter that the depth of an own network does not use."""
    value, operand = params.get(condition.name), params.get(condition.other) if condition.other else condition.operand
    return value is not None and operand is not None and condition.holds(value, operand)


def _check_conjunction(spec: JobSpec, where: Where, conjunction: dict[str, Any]) -> Iterator[Rejection]:
    if not conjunction:
        yield where, "Input should have at least one hyperparameter: an empty conjunction would forbid everything"
    for name, posted in conjunction.items():
        place = (*where, name)
        if wrong := _explain_name(spec, name):
            yield place, wrong
        elif posted == {}:
            yield place, f"Input should be a value or have at least one operator of {', '.join(OPERATORS)}"
        elif not isinstance(posted, dict):
            yield from _check_operand(spec, place, name, "eq", posted)
        else:
            for sign, operand in posted.items():
                yield from _check_operand(spec, (*place, sign), name, sign, operand)


def _check_operand(spec: JobSpec, where: Where, name: str, sign: str, operand: Any) -> Iterator[Rejection]:
    if sign not in OPERATORS:
        yield where, f"Unknown operator; expected one of {', '.join(OPERATORS)}"
    elif sign in ORDERS and not _is_number(spec, name):
        yield where, f"{name} is a string, which has no order: use eq, ne or in"
    elif sign == "in":
        yield from _check_choices(spec, where, name, operand)
    elif isinstance(operand, dict):
        yield from _check_other(spec, where, name, operand)
    elif sign not in ORDERS:
        yield from reject_value(spec.model_class, where, name, operand)
    elif not _is_finite(operand):
        yield where, 'Input should be a number, or {"param": another hyperparameter}'


def _check_choices(spec: JobSpec, where: Where, name: str, choices: Any) -> Iterator[Rejection]:
    if not isinstance(choices, list) or not choices:
        yield where, "Input should be a list of at least one value"
        return
    for index, value in enumerate(choices):
        yield from reject_value(spec.model_class, (*where, index), name, value)


def _check_other(spec: JobSpec, where: Where, name: str, operand: dict[str, Any]) -> Iterator[Rejection]:
    other = operand.get("param")
    if set(operand) != {"param"} or not isinstance(other, str):
        yield where, 'Input should be a value or {"param": another hyperparameter}'
    elif wrong := _explain_name(spec, other):
        yield (*where, "param"), wrong
    elif _is_number(spec, name) != _is_number(spec, other):
        kind = "number" if _is_number(spec, name) else "string"
        yield (*where, "param"), f"{name} is a {kind}, {other} is not: compare hyperparameters of the same type"


def _explain_name(spec: JobSpec, name: str) -> str | None:
    """Why there can be no condition on the hyperparameter, if so."""
    fields = spec.model_class.model_fields
    if name not in fields:
        return f"Unknown hyperparameter of {spec.model_class.name}; expected one of {', '.join(sorted(fields))}"
    return f"{name} is the resource, which grows from rung to rung: leave it out" if name == spec.resource else None


def _is_number(spec: JobSpec, name: str) -> bool:
    return spec.model_class.model_fields[name].annotation in (int, float)


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -LARGEST <= value <= LARGEST
