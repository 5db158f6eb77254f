"""Turns what a user passes as a job into the JSON that is posted."""

import json
from collections.abc import Mapping
from typing import Any

from tunewell.distributions import convert_distribution
from tunewell.searches import convert_search, is_search

Spec = Mapping[str, Any] | str | bytes | Any


def write_spec(spec: Spec | None, fields: Mapping[str, Any]) -> bytes:
    """The job as JSON.

    Args:
        spec: a dict; or JSON text, which is sent as it is; or an unfitted search of scikit-learn.
        fields: the job's fields by keyword, which replace those of `spec`; `dataset` may be its name, `search` a
            `ParameterGrid` of scikit-learn. Values may be distributions of scipy and Optuna, and NumPy's numbers.

    Raises:
        CannotConvert: Tunewell has no equal of something.
        TypeError: keywords beside text, or a value that JSON has no form for.
        ValueError: NaN or infinity.
    """
    if isinstance(spec, str | bytes):
        if fields:
            raise TypeError(f"keywords ({', '.join(fields)}) beside JSON text: pass the job as a dict")
        return spec.encode() if isinstance(spec, str) else spec
    document = {**(convert_search(spec) if is_search(spec) else spec or {}), **fields}
    if isinstance(document.get("dataset"), str):
        document["dataset"] = {"name": document["dataset"]}
    if is_search(document.get("search")):
        document |= convert_search(document["search"])
    try:
        return json.dumps(document, allow_nan=False, default=_to_plain).encode()
    except ValueError:
        raise ValueError("NaN and infinity have no form in JSON, and no hyperparameter takes them") from None


def _to_plain(value: Any) -> Any:
    """Distributions, NumPy's scalars and arrays, and ranges as JSON has them."""
    converted = convert_distribution(value)
    if converted is not None:
        return converted
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, range):
        return list(value)
    raise TypeError(f"{type(value).__name__} has no form in JSON: pass numbers, text, lists, dicts or None")
