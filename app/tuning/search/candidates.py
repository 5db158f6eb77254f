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
from app.tuning.search.forbidden import check_forbidden, compile_forbidden, is_forbidden
from app.tuning.search.models import MODELS, Candidate, Candidates, Model, Value
from app.tuning.search.plan import count_draws, make_plan
from app.tuning.search.rejections import MAX_REJECTIONS, Rejection, SpecRejected, raise_if_rejected, reject_value
from app.tuning.search.spaces import Distribution
from app.tuning.search.spec import CrossValidation, JobSpec
from app.tuning.search.strategies import GridSearch, HalvingGridSearch, Hyperband, TpeSearch

Point = dict[str, Value]
MAX_TRIALS = 10_000
# A search gives up once more draws are forbidden than so many, and so many for each that is allowed.
SPARE_DRAWS, DRAWS_PER_TRIAL = 10_000, 10
MAX_POINTS = 2**63 - 1  # combinations of lists: the limit of scikit-learn's sampler


def draw_candidates(spec: JobSpec) -> Candidates:
    """The job's trials in the order of scikit-learn's `ParameterGrid` or `ParameterSampler`.

    Raises:
        SpecRejected: the search is too large, or it does not fit the model or the data set.
    """
    for check in (_check_dataset, _check_race, _check_count, _check_space, check_forbidden):
        raise_if_rejected(check(spec))
    points, skipped = _list_allowed(spec)
    most = max(rung.n_resources for rung in make_plan(spec, len(points)))
    given = len(spec.search.points_to_evaluate)
    drawn = "startup" if isinstance(spec.search, TpeSearch) else "search"
    found = Candidates()
    found.skipped = skipped
    rejections: list[Rejection] = []
    for number, params in enumerate(points):
        try:
            found.append(make_candidate(spec, params, "given" if number < given else drawn, most))
        except ValueError as error:
            rejections.append((("search",), f"candidate {number}: {_explain(error)}"))
            if len(rejections) == MAX_REJECTIONS:
                break
    raise_if_rejected(rejections)
    if len(points) == given + _count_draws_now(spec):
        mean = sum(one.multiply_adds for one in found) / len(found)
        found += [Candidate({}, mean, "model")] * (count_trials(spec) - len(found))
    return found


def make_candidate(spec: JobSpec, params: Point, origin: str, n_resources: int | None = None) -> Candidate:
    """The candidate with these hyperparameters.

    Raises:
        ValueError: the model does not take them, or cannot be built with them.
    """
    model, dataset = MODELS[spec.model], DATASETS[spec.dataset.name]
    complete = model.model_validate(spec.hyperparameters(params, n_resources))
    cost = complete.training_cost(dataset.shape, dataset.classes)
    return Candidate(params, float(cost * spec.train_samples), origin)


def _count_draws_now(spec: JobSpec) -> int:
    """How many points are drawn when the job is posted; a model proposes the others later."""
    left = count_trials(spec) - len(spec.search.points_to_evaluate)
    if isinstance(spec.search, TpeSearch):
        return max(0, min(left, spec.search.n_startup_trials - len(spec.search.points_to_evaluate)))
    return left


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


def _list_allowed(spec: JobSpec) -> tuple[list[Point], int]:
    """The given points, then the allowed ones of the search, and how many forbidden points came before the last.

    Raises:
        SpecRejected: too few points are allowed.
    """
    given = spec.search.points_to_evaluate
    wanted = _count_draws_now(spec)
    conjunctions = compile_forbidden(spec)
    allowed: list[Point] = []
    skipped = 0
    for point in _draw(spec, wanted) if wanted else ():
        params = {name: _to_python(value) for name, value in point.items()}
        if conjunctions and is_forbidden(conjunctions, spec.fill(params)):
            skipped += 1
        else:
            allowed.append(params)
        if len(allowed) == wanted or skipped > SPARE_DRAWS + DRAWS_PER_TRIAL * len(allowed):
            break
    _check_allowed(spec, len(allowed), wanted, skipped)
    return [*given, *allowed], skipped


def _check_allowed(spec: JobSpec, allowed: int, wanted: int, skipped: int) -> None:
    """A grid may have fewer points than wanted, and so may a search over lists that has seen all; but not none."""
    exhausted = spec.search.space_field == "param_grid" or allowed + skipped == _count_points(spec)
    enough = exhausted and (allowed or spec.search.points_to_evaluate) and not isinstance(spec.search, Hyperband)
    if allowed < wanted and not enough:
        left = f"leaves {f'only {allowed:,}' if allowed else 'nothing'} of the {allowed + skipped:,} points seen"
        message = f"{left}, where the search needs {wanted:,}: forbid less, or search more values"
        raise SpecRejected([(("search", "forbidden"), message)])


def _draw(spec: JobSpec, wanted: int) -> Iterator[Mapping[str, Any]]:
    """The points of a grid, or the stream of a search's draws: longer than wanted if some may be forbidden."""
    spaces = spec.search.spaces
    if isinstance(spec.search, GridSearch | HalvingGridSearch):
        return iter(ParameterGrid(spaces))
    longest = wanted + (SPARE_DRAWS + DRAWS_PER_TRIAL * wanted if spec.search.forbidden else 0)
    if points := _count_points(spec):
        return _draw_points(spaces, points, wanted, longest, spec.random_state)
    return iter(ParameterSampler(spaces, longest, random_state=spec.random_state))


def _draw_points(
    spaces: list[dict[str, Any]], points: int, wanted: int, longest: int, seed: int
) -> Iterator[Mapping[str, Any]]:
    """The same draws as `ParameterSampler`, which takes minutes for thousands of lists; then further ones."""
    grids = [ParameterGrid(space) for space in spaces]
    starts = list(accumulate((len(grid) for grid in grids), initial=0))
    for point in _sample(points, wanted, longest, RandomState(seed)):
        which = bisect_right(starts, point) - 1
        yield grids[which][point - starts[which]]


def _sample(points: int, wanted: int, longest: int, generator: RandomState) -> Iterator[int]:
    """Different numbers below `points`: scikit-learn's sample of as many as wanted, as if nothing was forbidden, then
    those of a second, longer sample by the same generator that were not in the first."""
    first = sample_without_replacement(points, wanted, random_state=generator)
    yield from first
    if longest > wanted:
        seen = set(first)
        others = sample_without_replacement(points, min(points, longest), random_state=generator)
        yield from (one for one in others if one not in seen)


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


def _check_race(spec: JobSpec) -> Iterator[Rejection]:
    if not spec.race:
        return
    if spec.race.burn_in >= spec.folds:
        yield (
            ("evaluation", "race", "burn_in"),
            f"of {spec.folds} folds a race can spare some only if burn_in is {spec.folds - 1} or less",
        )
    if spec.resource == "folds":
        yield ("evaluation", "race"), "folds are what grows from rung to rung: race over epochs or n_samples"
    if spec.select != "best":
        yield ("evaluation", "select"), "a race drops trials that one standard error needs: use 'best', or no race"


def _check_space(spec: JobSpec) -> Iterator[Rejection]:
    model = MODELS[spec.model]
    for name, value in spec.fixed.items():
        yield from reject_value(model, ("fixed", name), name, value)
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
                    yield from reject_value(model, (*where, name, index), name, value)
            else:
                yield from _check_distribution(model, (*where, name), name, space)
    for index, point in enumerate(spec.search.points_to_evaluate):
        for name, value in point.items():
            place = ("search", "points_to_evaluate", index, name)
            if name == spec.resource or name in spec.fixed:
                yield place, f"{name} is {'the resource' if name == spec.resource else 'in `fixed`'}: leave it out here"
            else:
                yield from reject_value(model, place, name, value)


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
        for _, message in reject_value(model, where, name, end):
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
    elif isinstance(spec.search, Hyperband) and trials < (draws := count_draws(spec)):
        yield (
            ("search", "param_distributions"),
            f"the lists have {trials:,} combinations, but the brackets need {draws:,} candidates: search more values, "
            "or use a larger min_resources or fewer brackets",
        )
    elif not isinstance(spec.search, GridSearch | HalvingGridSearch) and (_count_points(spec) or 0) > MAX_POINTS:
        yield ("search", "param_distributions"), f"the lists must have at most {MAX_POINTS:,} combinations in total"
