"""From a posted search to its candidates: count, check, then draw them with scikit-learn's samplers."""

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
from app.tuning.search.plan import count_draws, make_plan
from app.tuning.search.rejections import MAX_REJECTIONS, Rejection, raise_if_rejected
from app.tuning.search.spaces import Distribution
from app.tuning.search.spec import CrossValidation, JobSpec
from app.tuning.search.strategies import GridSearch, HalvingGridSearch

MAX_TRIALS = 10_000
MAX_POINTS = 2**63 - 1  # combinations of lists: the limit of scikit-learn's sampler


def draw_candidates(spec: JobSpec) -> list[Candidate]:
    """The job's trials in the order of scikit-learn's `ParameterGrid` or `ParameterSampler`.

    Raises:
        SpecRejected: the search is too large, or it does not fit the model or the data set.
    """
    for check in (_check_dataset, _check_count, _check_space):
        raise_if_rejected(check(spec))
    plan = make_plan(spec, count_trials(spec))
    most = max(rung.n_resources for rung in plan)
    model, dataset = MODELS[spec.model], DATASETS[spec.dataset.name]
    drawn = ({name: _to_python(value) for name, value in params.items()} for params in _list_points(spec))
    given = len(spec.search.points_to_evaluate)
    found: list[Candidate] = []
    rejections: list[Rejection] = []
    for number, params in enumerate(drawn):
        try:
            candidate = model.model_validate(spec.hyperparameters(params, most))
            cost = candidate.training_cost(dataset.shape, dataset.classes)
            origin = "given" if number < given else "search"
            found.append(Candidate(params, float(cost * spec.train_samples), origin))
        except ValueError as error:
            rejections.append((("search",), f"candidate {number}: {_explain(error)}"))
            if len(rejections) == MAX_REJECTIONS:
                break
    raise_if_rejected(rejections)
    return found


def count_trials(spec: JobSpec) -> int:
    """The number of trials, computed without expanding the search.

    Raises:
        SpecRejected: its resources do not make a plan.
    """
    search = spec.search
    if isinstance(search, GridSearch | HalvingGridSearch):
        points = sum(math.prod(len(values) for values in grid.values()) for grid in search.spaces)
        return points + len(search.points_to_evaluate)
    points_left = _count_points(spec)
    draws, given = count_draws(spec), len(search.points_to_evaluate)
    return draws if points_left is None else min(draws, given + points_left)


def _count_points(spec: JobSpec) -> int | None:
    """The points of a search over lists only, drawn without replacement; None if it has distributions."""
    spaces = spec.search.spaces
    if all(isinstance(space, list) for one in spaces for space in one.values()):
        return sum(math.prod(len(space) for space in one.values()) for one in spaces)
    return None


def _list_points(spec: JobSpec) -> Iterator[Mapping[str, Any]]:
    """The given points, then those of the search: a grid's all, else so many that there are enough with the given."""
    yield from spec.search.points_to_evaluate
    drawn = count_trials(spec) - len(spec.search.points_to_evaluate)
    if drawn > 0:
        yield from _draw(spec, drawn)


def _draw(spec: JobSpec, number: int) -> Iterator[Mapping[str, Any]]:
    spaces = spec.search.spaces
    if isinstance(spec.search, GridSearch | HalvingGridSearch):
        return iter(ParameterGrid(spaces))
    if points := _count_points(spec):
        return _draw_points(spaces, points, number, spec.random_state)
    return iter(ParameterSampler(spaces, number, random_state=spec.random_state))


def _draw_points(spaces: list[dict[str, Any]], points: int, n_iter: int, seed: int) -> Iterator[Mapping[str, Any]]:
    """The same draws as `ParameterSampler`, which takes minutes for thousands of lists."""
    grids = [ParameterGrid(space) for space in spaces]
    starts = list(accumulate((len(grid) for grid in grids), initial=0))
    for point in sample_without_replacement(points, n_iter, random_state=RandomState(seed)):
        which = bisect_right(starts, point) - 1
        yield grids[which][point - starts[which]]


def _to_python(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def _explain(error: ValueError) -> str:
    if isinstance(error, ValidationError):
        return "; ".join(f"{'.'.join(map(str, one['loc']))} {one['msg']}".strip() for one in error.errors())
    return str(error)


def _check_dataset(spec: JobSpec) -> Iterator[Rejection]:
    dataset = DATASETS[spec.dataset.name]
    for field, most in (("train_samples", dataset.train_samples), ("test_samples", dataset.test_samples)):
        wanted = getattr(spec.dataset, field)
        if wanted is not None and wanted > most:
            yield ("dataset", field), f"{dataset.name} has {most} samples: use 1 to {most}, or null for all"
    yield from _check_folds(spec, dataset)


def _check_folds(spec: JobSpec, dataset: Dataset) -> Iterator[Rejection]:
    samples = spec.train_samples
    if isinstance(spec.evaluation, CrossValidation):
        cv = spec.evaluation.cv
        fewest = dataset.smallest_for(cv)
        if samples < fewest:
            yield (
                ("dataset", "train_samples"),
                f"cv={cv} needs a class with at least {cv} samples: use {fewest} or more train_samples",
            )
    elif not 0 < math.floor(samples * (1 - spec.evaluation.validation_split)) < samples:
        yield (
            ("evaluation", "validation_split"),
            f"must leave at least one of the {samples} training samples for training and one for validation",
        )


def _check_space(spec: JobSpec) -> Iterator[Rejection]:
    model = MODELS[spec.model]
    for name, value in spec.fixed.items():
        yield from _check_value(model, ("fixed", name), name, value)
    searched = spec.search.space_field
    posted = getattr(spec.search, searched)
    for position, one in enumerate(spec.search.spaces):
        where = ("search", searched, position) if isinstance(posted, list) else ("search", searched)
        for name, space in one.items():
            if name == spec.resource:
                yield (*where, name), f"{name} is the resource, which grows from rung to rung: do not search it"
            elif name in spec.fixed:
                yield (*where, name), f"{name} is also in `fixed`: use it once"
            elif isinstance(space, list):
                for index, value in enumerate(space):
                    yield from _check_value(model, (*where, name, index), name, value)
            else:
                yield from _check_distribution(model, (*where, name), name, space)
    for index, point in enumerate(spec.search.points_to_evaluate):
        for name, value in point.items():
            place = ("search", "points_to_evaluate", index, name)
            if name == spec.resource or name in spec.fixed:
                yield place, f"{name} is {'the resource' if name == spec.resource else 'in `fixed`'}: leave it out here"
            else:
                yield from _check_value(model, place, name, value)


def _check_value(model: type[Model], where: tuple[str | int, ...], name: str, value: Any) -> Iterator[Rejection]:
    if name not in model.model_fields:
        yield where, f"Unknown hyperparameter of {model.name}; expected one of {', '.join(sorted(model.model_fields))}"
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
        yield where, f"{name} is an integer: use a list or the distribution 'randint'"
        return
    # A draw may be as close to an end as the neighbouring float; a draw of the end itself is checked afterwards.
    ends = (int(low), int(high)) if whole else (math.nextafter(low, high), math.nextafter(high, low))
    for end in ends:
        for _, message in _check_value(model, where, name, end):
            yield where, f"{message}; the distribution ranges from {low} to {high}"


def _check_count(spec: JobSpec) -> Iterator[Rejection]:
    trials = count_trials(spec)
    given = len(spec.search.points_to_evaluate)
    if given > trials:
        yield ("search", "points_to_evaluate"), f"{given} points, but the search has {trials} candidates in all"
    if trials > MAX_TRIALS:
        shown = f"{trials:,}" if trials < 10**15 else "Too many"
        yield (
            ("search",),
            f"{shown} trials: a job has at most {MAX_TRIALS:,}; search fewer values, or use random search",
        )
    elif not isinstance(spec.search, GridSearch | HalvingGridSearch) and (_count_points(spec) or 0) > MAX_POINTS:
        yield ("search", "param_distributions"), f"the lists must have at most {MAX_POINTS:,} combinations in total"
