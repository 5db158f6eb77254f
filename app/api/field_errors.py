"""Turns pydantic's errors into JSON pointers into the posted body, with messages that say what is expected."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from app.tuning.search import spaces, spec
from app.tuning.search.own_networks import LayerList
from app.tuning.search.strategies import STRATEGIES

Path = Sequence[str | int]
MAX_POINTER_LENGTH = 300
MAX_MESSAGE_LENGTH = 400
# By the step before the unknown field in pydantic's location: a field name, or the name of a union's member.
FIELDS = {
    "dataset": spec.DatasetSpec,
    "LayerList": LayerList,
    "limits": spec.Limits,
    "warm_start": spec.WarmStart,
    "lossless": spec.LosslessRace,
    "bootstrap": spec.BootstrapRace,
    **STRATEGIES,
    **{kind.__name__: kind for kind in (spec.CrossValidation, spec.Holdout)},
    **{kind.__name__: kind for kind in (spaces.ScaledUniform, spaces.Uniform, spaces.LogUniform, spaces.RandInt)},
}


def json_pointer(path: Path) -> str:
    """A path as a JSON pointer, truncated before the step that would exceed `MAX_POINTER_LENGTH`."""
    found = ""
    for step in path:
        longer = f"{found}/{str(step).replace('~', '~0').replace('/', '~1')}"
        if len(longer) > MAX_POINTER_LENGTH:
            break
        found = longer
    return found


def describe_errors(error: Mapping[str, Any], body: Any, posted: type[BaseModel]) -> list[tuple[Path, str]]:
    """Each path to an invalid part of a request, and what is expected there."""
    path, message = describe_error(error, body, posted)
    if error["type"] == "layers":
        return [((*path, *where), said) for where, said in error["ctx"]["places"]]
    return [(path, message)]


def describe_error(error: Mapping[str, Any], body: Any, posted: type[BaseModel]) -> tuple[Path, str]:
    """The path to the invalid part of a request, and what is expected there."""
    where, *path = error["loc"]
    kind, message = error["type"], str(error["msg"]).removeprefix("Value error, ")
    if where != "body":
        unknown = "Unknown parameter; GET /openapi.json lists the known ones."
        return path, unknown if kind == "extra_forbidden" else message
    real = _path_in_body(path, body, kind == "missing")
    if not path and not isinstance(body, dict):
        return (), "Input should be a JSON object"
    if kind == "extra_forbidden":
        known = FIELDS[path[-2]] if path[1:] else posted
        return real, f"Unknown field; expected one of {', '.join(known.model_fields)}."
    if kind.startswith("union_tag"):
        lacks = "Field required; " if kind == "union_tag_not_found" else ""
        tag, kinds = ("method", ("lossless", "bootstrap")) if real[-1:] == ["race"] else ("strategy", tuple(STRATEGIES))
        *names, last = (f"'{name}'" for name in kinds)
        return [*real, tag], f"{lacks}Input should be {', '.join(names)} or {last}"
    return real, message


def truncate(text: str, max_length: int) -> str:
    """The text, cut to a maximum number of characters."""
    return text if len(text) <= max_length else f"{text[: max_length - 1]}…"


def _path_in_body(path: Path, body: Any, missing: bool) -> list[str | int]:
    """Pydantic's location without the names of union members, which it inserts between the steps into the body."""
    steps: list[str | int] = []
    named = False
    for index, step in enumerate(path):
        if not named and _leads_to_union(steps):
            named = True
            continue
        if _has_step(body, step):
            body = body[step]
        elif not (missing and index == len(path) - 1):
            continue
        steps.append(step)
        named = False
    return steps


def _leads_to_union(steps: Path) -> bool:
    match steps:
        case (
            ["search" | "evaluation" | "model"]
            | ["evaluation", "race"]
            | ["search", "param_grid" | "param_distributions"]
        ):
            return True
        case ["search", "param_distributions", str()] | ["search", "param_distributions", int(), str()]:
            return True
    return False


def _has_step(body: Any, step: str | int) -> bool:
    if isinstance(body, dict):
        return step in body
    return isinstance(body, list) and isinstance(step, int) and 0 <= step < len(body)
