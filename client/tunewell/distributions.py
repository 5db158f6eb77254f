"""Distributions of scipy and Optuna as Tunewell's; neither library is imported."""

from collections.abc import Mapping
from typing import Any

from tunewell.errors import CannotConvert

Document = dict[str, Any]
KNOWN = "uniform, loguniform (reciprocal), randint, or a list of values"


def convert_distribution(value: Any) -> Document | list[Any] | None:
    """A distribution in JSON's form; none if the value is no distribution.

    Args:
        value: a frozen distribution of `scipy.stats`, or a distribution of `optuna.distributions`.

    Raises:
        CannotConvert: Tunewell has no equal of it.
    """
    if hasattr(value, "dist") and hasattr(value, "kwds"):
        return _convert_scipy(value)
    if type(value).__module__.startswith("optuna.distributions"):
        return _convert_optuna(value)
    return None


def _convert_scipy(frozen: Any) -> Document:
    """`frozen.dist.name` is the family, `args` and `kwds` are what it was frozen with."""
    name = frozen.dist.name
    shapes = [shape.strip() for shape in (frozen.dist.shapes or "").split(",") if shape.strip()]
    order = [*shapes, "loc", *([] if name == "randint" else ["scale"])]
    given = {"loc": 0, "scale": 1} | dict(zip(order, frozen.args, strict=False)) | dict(frozen.kwds)
    given = {key: _plain(value) for key, value in given.items()}
    loc, scale = given["loc"], given["scale"]
    if name == "uniform":
        return {"distribution": "uniform", "loc": loc, "scale": scale}
    if name in {"loguniform", "reciprocal"}:
        if loc != 0:
            raise CannotConvert(f"scipy's {name} shifted by loc={loc} has no equal in Tunewell: leave loc out")
        return {"distribution": "loguniform", "low": given["a"] * scale, "high": given["b"] * scale}
    if name == "randint":
        return {"distribution": "randint", "low": given["low"] + loc, "high": given["high"] + loc}
    raise CannotConvert(f"scipy's {name} has no equal in Tunewell: take {KNOWN}")


def _convert_optuna(value: Any) -> Document | list[Any]:
    kind = type(value).__name__
    if kind == "CategoricalDistribution":
        return list(value.choices)
    step, log = value.step, value.log
    if kind == "FloatDistribution" and step is None:
        return {"distribution": "loguniform" if log else "uniform", "low": value.low, "high": value.high}
    if kind == "IntDistribution" and not log:
        if step == 1:
            return {"distribution": "randint", "low": value.low, "high": value.high + 1}  # Tunewell excludes high
        return list(range(value.low, value.high + 1, step))
    how = "log=True" if log else f"step={step}"
    raise CannotConvert(f"Optuna's {kind} with {how} has no equal in Tunewell: take {KNOWN}")


def convert_space(space: Any) -> Document | list[Document]:
    """A `param_grid` or `param_distributions`: a dict or a list of dicts, with each value in JSON's form."""
    if isinstance(space, Mapping):
        return {name: _convert_values(name, values) for name, values in space.items()}
    return [{name: _convert_values(name, values) for name, values in one.items()} for one in space]


def _convert_values(name: str, values: Any) -> Any:
    try:
        converted = convert_distribution(values)
    except CannotConvert as error:
        raise CannotConvert(f"{name}: {error}") from None
    if converted is not None:
        return converted
    if isinstance(values, Mapping):  # in JSON's form already
        return dict(values)
    if isinstance(values, str) or not hasattr(values, "__iter__"):
        raise CannotConvert(f"{name}: {values!r} is neither a list of values nor a distribution: take {KNOWN}")
    return [_plain(value) for value in values]


def _plain(value: Any) -> Any:
    """A NumPy scalar as Python's number."""
    return value.item() if hasattr(value, "item") else value
