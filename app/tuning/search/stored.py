"""Lenient reading of stored jobs, which another version of Tunewell may have written."""

import json
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from app.tuning import __version__
from app.tuning.search.datasets import DATASETS
from app.tuning.search.models import check_value
from app.tuning.search.spec import JobSpec

MAX_PLACES = 3  # named in an `UnreadableSpec`


class UnreadableSpec(ValueError):
    """This version cannot run a stored job, which another version wrote."""

    def __init__(self, places: list[str]) -> None:
        where = ", ".join(places[:MAX_PLACES])
        super().__init__(
            f"Tunewell {__version__} cannot run this stored job: unknown content at {where}. "
            "It continues once a version that supports it runs again; it can also be cancelled."
        )


def read_spec(stored: Any) -> JobSpec:
    """The stored job, without fields that this version does not know.

    Raises:
        UnreadableSpec: the job needs something that this version does not have.
    """
    try:
        spec = JobSpec.model_validate(stored, extra="ignore")
    except ValidationError as error:
        raise UnreadableSpec([_pointer(*one["loc"]) for one in error.errors(include_input=False)]) from None
    if spec.dataset.facts is None and spec.dataset.name not in DATASETS:
        raise UnreadableSpec([_pointer("dataset", "name")])
    if unknown := list(_unknown_hyperparameters(spec)):
        raise UnreadableSpec(unknown)
    return spec


def read_spec_or_none(stored: Any) -> JobSpec | None:
    """The stored job, or None if this version cannot run it."""
    try:
        return read_spec(stored)
    except UnreadableSpec:
        return None


def load_json(column: Any) -> Any:
    """A stored JSON value; invalid JSON, or JSON that no response can contain, as plain text."""
    if not isinstance(column, str | bytes):
        return column  # SQLite converts bare numbers
    text = column if isinstance(column, str) else column.decode(errors="replace")
    try:
        value = _DECODER.decode(text)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()  # fails on a lone surrogate
    except (ValueError, RecursionError):
        return text
    return value


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_no_number)


def _unknown_hyperparameters(spec: JobSpec) -> Iterator[str]:
    model, search = spec.model_class, spec.search
    fixed = [(("fixed", name), name, [value]) for name, value in spec.fixed.items()]
    named = [
        (("search", search.space_field, name), name, space) for one in search.spaces for name, space in one.items()
    ]
    for place, name, space in (*fixed, *named):
        try:
            for value in space if isinstance(space, list) else ():
                check_value(model, name, value)
            known = name in model.model_fields
        except (KeyError, ValidationError):
            known = False
        if not known:
            yield _pointer(*place)


def _pointer(*place: str | int) -> str:
    return "".join(f"/{part}" for part in place) or "/"
