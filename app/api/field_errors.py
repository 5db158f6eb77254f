"""From pydantic's errors to JSON pointers that lead into the posted body, and messages that say what would be right."""

from collections.abc import Mapping, Sequence
from typing import Any

from app.tuning.search import spec

Path = Sequence[str | int]
MAX_POINTER_LENGTH = 300
MAX_MESSAGE_LENGTH = 400
# By the last step before an unknown field: the field that holds it, or the union's member that pydantic took it for.
FIELDS = {
    "dataset": spec.DatasetSpec,
    "limits": spec.Limits,
    "grid": spec.GridSearch,
    "random": spec.RandomSearch,
    **{kind.__name__: kind for kind in (spec.CrossValidation, spec.Holdout)},
    **{kind.__name__: kind for kind in (spec.ScaledUniform, spec.Uniform, spec.LogUniform, spec.RandInt)},
}


def json_pointer(path: Path) -> str:
    """A path as a JSON pointer; where a key would make it huge, it stops before, at what holds that."""
    found = ""
    for step in path:
        longer = f"{found}/{str(step).replace('~', '~0').replace('/', '~1')}"
        if len(longer) > MAX_POINTER_LENGTH:
            break
        found = longer
    return found


def describe_error(error: Mapping[str, Any], body: Any) -> tuple[Path, str]:
    """Where the request is wrong, and what would be right."""
    where, *path = error["loc"]
    kind, message = error["type"], str(error["msg"]).removeprefix("Value error, ")
    if where != "body":
        unknown = "There is no such parameter; GET /openapi.json lists those there are."
        return path, unknown if kind == "extra_forbidden" else message
    real = _path_in_body(path, body, kind == "missing")
    if not path and not isinstance(body, dict):
        return (), "A JSON object is needed here."
    if kind == "extra_forbidden":
        known = FIELDS[path[-2]] if path[1:] else spec.JobSpec
        return real, f"There is no such field here; there are {', '.join(known.model_fields)}."
    if kind.startswith("union_tag"):
        lacks = "Field required; " if kind == "union_tag_not_found" else ""
        return [*real, "strategy"], f"{lacks}Input should be 'grid' or 'random'"
    return real, message


def truncate(text: str, most: int) -> str:
    """The text, no longer than so many characters."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _path_in_body(path: Path, body: Any, missing: bool) -> list[str | int]:
    """The steps that lead through the body: pydantic's has the names of its unions' members in between."""
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
        case ["search" | "evaluation"] | ["search", "param_grid" | "param_distributions"]:
            return True
        case ["search", "param_distributions", str()] | ["search", "param_distributions", int(), str()]:
            return True
    return False


def _has_step(body: Any, step: str | int) -> bool:
    if isinstance(body, dict):
        return step in body
    return isinstance(body, list) and isinstance(step, int) and 0 <= step < len(body)
