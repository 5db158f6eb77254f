"""Trials as a table, and scikit-learn's results as arrays."""

from typing import Any

from tunewell.errors import require

Document = dict[str, Any]


def make_dataframe(table: Document) -> Any:
    """A pandas DataFrame with a row per trial: its number as the index, its hyperparameters, then the other columns."""
    pandas = require("pandas", "dataframe()")
    numbers = pandas.Index(table["number"], name="trial")
    params = {f"param_{name}": values for name, values in table["params"].items()}
    others = {name: values for name, values in table.items() if isinstance(values, list) and name != "number"}
    return pandas.DataFrame({**params, **others}, index=numbers)


def make_cv_results(results: Document) -> Document:
    """`cv_results_` as scikit-learn has it: arrays, with masked ones for hyperparameters; null is NaN."""
    numpy = require("numpy", "cv_results_")
    made: Document = {}
    for name, values in results.items():
        if name.startswith("param_"):
            made[name] = numpy.ma.array(
                numpy.array([*values, None], dtype=object)[:-1], mask=[value is None for value in values]
            )
        elif name == "params":
            made[name] = values
        elif name.startswith("rank_") or name in {"iter", "n_resources"}:
            made[name] = numpy.array(values, dtype=numpy.int32)
        else:
            made[name] = numpy.array(values, dtype=float)  # None becomes NaN
    return made
