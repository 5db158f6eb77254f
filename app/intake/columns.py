"""Describes the columns of a table, as many as fit into the answer."""

import json
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from app.intake.answers import Description, quote
from app.intake.content import AnyArray, Content, Feature, cut_rows
from app.intake.limits import ANSWER_BYTES

SPARE_BYTES = 4_000  # for the warning, and for what JSON adds


def add_columns(described: Description, content: Content, x_train: AnyArray) -> Description:
    """The description with `columns` and the `head` of these; `x_train` is (n, f). Unchanged for images."""
    if content.features is None:
        return described
    columns = _summarize(content.features, x_train)
    room = ANSWER_BYTES - SPARE_BYTES - len(to_json(asdict(described)))
    fitting = 0
    for column in columns:
        cells = [{column["name"]: quote(row[column["name"]])} for row in content.head or []]
        room -= len(to_json([column, *cells])) + 4
        if room < 0:
            break
        fitting += 1
    left_out = [f"only the first {fitting:,} of {len(columns):,} columns are described"] * (fitting < len(columns))
    unshown = {column["name"] for column in columns[fitting:]}
    head = [{name: quote(cell) for name, cell in row.items() if name not in unshown} for row in content.head or []]
    return replace(described, columns=columns[:fitting], head=head or None, warnings=[*described.warnings, *left_out])


def to_json(value: Any) -> bytes:
    """The value as it is answered."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode()


def _summarize(features: list[Feature], x_train: AnyArray) -> list[dict[str, Any]]:
    """Minimum, maximum, mean and population's standard deviation of numbers, counts of categories; training rows."""
    parts = list(cut_rows(len(x_train), x_train.shape[1]))
    total = sum(x_train[part].sum(axis=0, dtype=np.float64) for part in parts)
    mean = total / len(x_train)
    squares = sum(((x_train[part] - mean) ** 2).sum(axis=0) for part in parts)
    low = np.min([x_train[part].min(axis=0) for part in parts], axis=0)
    high = np.max([x_train[part].max(axis=0) for part in parts], axis=0)
    found: list[dict[str, Any]] = []
    place = 0
    for name, categories in features:
        if categories is None:
            numbers = {"min": low[place], "max": high[place], "mean": mean[place]}
            numbers["std"] = np.sqrt(squares[place] / len(x_train))
            found.append({"name": name, "type": "number"} | {key: _shorten(one) for key, one in numbers.items()})
        else:
            counts = total[place : place + len(categories)].astype(int).tolist()
            shown = [quote(category) for category in categories]
            found.append({"name": name, "type": "category", "categories": shown, "counts": counts})
        place += 1 if categories is None else len(categories)
    return found


def _shorten(number: float) -> float:
    """Six significant digits, without a fraction where there is none."""
    short = float(f"{number:.6g}")
    return int(short) if short.is_integer() and abs(short) < 2**53 else short
