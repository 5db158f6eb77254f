"""From a posted search to its candidates: counted first, then checked, then drawn by scikit-learn's own samplers."""

import math
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Any

from numpy.random import RandomState
from pydantic import ValidationError
from sklearn.model_selection import ParameterGrid, ParameterSampler
from sklearn.utils.random import sample_without_replacement

from app.tuning.search.datasets import DATASETS, Dataset
from app.tuning.search.models import MODELS, Candidate, Model, check_value
from app.tuning.search.spec import CrossValidation, Distribution, GridSearch, JobSpec

MAX_TRIALS = 10_000
MAX_POINTS = 2**63 - 1  # what scikit-learn's sampler can index
MAX_REJECTIONS = 10
Rejection = tuple[tuple[str | int, ...], str]  # where in the posted job, and what would be right


class SpecRejected(Exception):
    """The job cannot be run as posted."""

    def __init__(self, refusals: list[Rejection]) -> None:
        super().__init__("; ".join(message for _, message in refusals))
        self.refusals = refusals


def draw_candidates(spec: JobSpec) -> list[Candidate]:
    """The job's trials in the order of scikit-learn's `ParameterGrid` or `ParameterSampler`.

    Raises:
        SpecRefused: the search is too large, or it asks for what the model or the data set cannot give.
    """
    for check in (_check_count, _check_dataset, _check_space):
        raise_if_rejected(check(spec))
    model, dataset = MODELS[spec.model], DATASETS[spec.dataset.name]
    drawn = ({name: _to_python(value) for name, value in params.items()} for params in _draw(spec))
    found: list[Candidate] = []
    refusals: list[Rejection] = []
    for number, params in enumerate(drawn):
        try:
            candidate = model.model_validate({**spec.fixed, **params})
            cost = candidate.training_cost(dataset.shape, dataset.classes)
            found.append(Candidate(params, float(cost * spec.train_samples)))
        except ValueError as error:
            refusals.append((("search",), f"candidate {number}: {_explain(error)}"))
            if len(refusals) == MAX_REJECTIONS:
                break
    raise_if_rejected(refusals)
    return found


def count_trials(spec: JobSpec) -> int:
    """How many trials the search has, computed without expanding it."""
    if isinstance(spec.search, GridSearch):
        return sum(math.prod(len(values) for values in grid.values()) for grid in _as_list(spec.search.param_grid))
    points = _count_points(spec)
    return spec.search.n_iter if points is None else min(spec.search.n_iter, points)


def _count_points(spec: JobSpec) -> int | None:
    """The points of a random search over lists alone, which scikit-learn draws without replacement; else None."""
    assert not isinstance(spec.search, GridSearch)
    spaces = _as_list(spec.search.param_distributions)
    if all(isinstance(space, list) for one in spaces for space in one.values()):
        return sum(math.prod(len(space) for space in one.values()) for one in spaces)
    return None


def raise_if_rejected(refusals: "Iterator[Rejection] | list[Rejection]") -> None:
    """Raise `SpecRefused` if there is anything to refuse; ten at most are named."""
    some = [refusal for refusal, _ in zip(refusals, range(MAX_REJECTIONS), strict=False)]
    if some:
        raise SpecRejected(some)


def _draw(spec: JobSpec) -> Iterator[Mapping[str, Any]]:
    if isinstance(spec.search, GridSearch):
        return iter(ParameterGrid(_as_list(spec.search.param_grid)))
    spaces = _as_list(spec.search.param_distributions)
    if points := _count_points(spec):
        return _draw_points(spaces, points, min(points, spec.search.n_iter), spec.random_state)
    return iter(ParameterSampler(spaces, spec.search.n_iter, random_state=spec.random_state))


def _draw_points(spaces: list[dict[str, Any]], points: int, n_iter: int, seed: int) -> Iterator[Mapping[str, Any]]:
    """What `ParameterSampler` draws from lists alone; thousands of objects of lists take it minutes."""
    grids = [ParameterGrid(space) for space in spaces]
    starts = list(accumulate((len(grid) for grid in grids), initial=0))
    for point in sample_without_replacement(points, n_iter, random_state=RandomState(seed)):
        which = bisect_right(starts, point) - 1
        yield grids[which][point - starts[which]]


def _as_list(one_or_many: Any) -> list[dict[str, Any]]:
    return one_or_many if isinstance(one_or_many, list) else [one_or_many]


def _to_python(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def _explain(error: ValueError) -> str:
    if isinstance(error, ValidationError):
        return "; ".join(f"{'.'.join(map(str, one['loc']))} {one['msg']}".strip() for one in error.errors())
    return str(error)


def _check_dataset(spec: JobSpec) -> Iterator[Rejection]:
    dataset = DATASETS[spec.dataset.name]
    for field, most in (("train_samples", dataset.train_samples), ("test_samples", dataset.test_samples)):
        asked = getattr(spec.dataset, field)
        if asked is not None and asked > most:
            yield ("dataset", field), f"{dataset.name} has {most} samples here: 1 to {most}, or null for all"
    yield from _check_folds(spec, dataset)


def _check_folds(spec: JobSpec, dataset: Dataset) -> Iterator[Rejection]:
    samples = spec.train_samples
    if isinstance(spec.evaluation, CrossValidation):
        fewest = dataset.smallest_for(spec.evaluation.cv)
        if samples < fewest:
            yield (
                ("dataset", "train_samples"),
                f"cv {spec.evaluation.cv} needs a class with as many members: {fewest} samples or more",
            )
    elif not 0 < math.floor(samples * (1 - spec.evaluation.validation_split)) < samples:
        yield (
            ("evaluation", "validation_split"),
            f"of {samples} training samples it must leave at least one to train on and one to validate on",
        )


def _check_space(spec: JobSpec) -> Iterator[Rejection]:
    model = MODELS[spec.model]
    for name, value in spec.fixed.items():
        yield from _check_value(model, ("fixed", name), name, value)
    searched = "param_grid" if isinstance(spec.search, GridSearch) else "param_distributions"
    posted = getattr(spec.search, searched)
    for position, one in enumerate(_as_list(posted)):
        where = ("search", searched, position) if isinstance(posted, list) else ("search", searched)
        for name, space in one.items():
            if name in spec.fixed:
                yield (*where, name), f"{name} is named in `fixed` too: name it once"
            elif isinstance(space, list):
                for index, value in enumerate(space):
                    yield from _check_value(model, (*where, name, index), name, value)
            else:
                yield from _check_distribution(model, (*where, name), name, space)


def _check_value(model: type[Model], where: tuple[str | int, ...], name: str, value: Any) -> Iterator[Rejection]:
    if name not in model.model_fields:
        yield where, f"{model.name} has no such hyperparameter; it has {', '.join(sorted(model.model_fields))}"
        return
    try:
        check_value(model, name, value)
    except ValidationError as error:
        yield where, error.errors(include_input=False)[0]["msg"]


def _check_distribution(
    model: type[Model], where: tuple[str | int, ...], name: str, space: Distribution
) -> Iterator[Rejection]:
    low, high = space.support
    whole = space.distribution == "randint"
    if name in model.model_fields and model.model_fields[name].annotation is int and not whole:
        yield where, f"{name} is a whole number: give it a list or the distribution 'randint'"
        return
    # A real draw may come as near to the ends as there are numbers; whether it hit one is checked once it is drawn.
    ends = (int(low), int(high)) if whole else (math.nextafter(low, high), math.nextafter(high, low))
    for end in ends:
        for _, message in _check_value(model, where, name, end):
            yield where, f"{message}, and the distribution goes from {low} to {high}"


def _check_count(spec: JobSpec) -> Iterator[Rejection]:
    trials = count_trials(spec)
    if trials > MAX_TRIALS:
        shown = f"{trials:,}" if trials < 10**15 else "far more"
        yield ("search",), f"{shown} trials: at most {MAX_TRIALS:,} in a job; search fewer values, or draw at random"
    elif not isinstance(spec.search, GridSearch) and (_count_points(spec) or 0) > MAX_POINTS:
        yield ("search", "param_distributions"), f"lists of at most {MAX_POINTS:,} points in all can be drawn from"
