"""From a posted search to its candidates: count, check, then draw them with scikit-learn's samplers."""

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Any

from numpy.random import RandomState
from pydantic import ValidationError
from sklearn.model_selection import ParameterGrid, ParameterSampler
from sklearn.utils.random import sample_without_replacement

from app.tuning.search.budget import fit_budget
from app.tuning.search.checks import check_search
from app.tuning.search.counts import count_by_bracket, count_draws_now, count_points, count_trials
from app.tuning.search.forbidden import compile_forbidden, is_forbidden
from app.tuning.search.models import Candidate, Candidates, Value
from app.tuning.search.own_networks import MisplacedLayer
from app.tuning.search.plan import make_plan
from app.tuning.search.rejections import MAX_REJECTIONS, Rejection, SpecRejected, raise_if_rejected
from app.tuning.search.spec import JobSpec
from app.tuning.search.strategies import GridSearch, HalvingGridSearch, Hyperband

Point = dict[str, Value]
# A search gives up once more draws are forbidden than so many, and so many for each that is allowed.
SPARE_DRAWS, DRAWS_PER_TRIAL = 10_000, 10


def draw_candidates(spec: JobSpec) -> Candidates:
    """The job's trials in the order of scikit-learn's `ParameterGrid` or `ParameterSampler`.

    Raises:
        SpecRejected: the search is too large, or it does not fit the model or the data set.
    """
    check_search(spec)
    points, skipped = _list_allowed(spec)
    most = max(rung.n_resources for rung in make_plan(spec, len(points)))
    given = len(spec.search.points_to_evaluate)
    drawn = "startup" if spec.search.learns else "search"
    found = Candidates()
    found.skipped = skipped
    rejections: list[Rejection] = []
    for number, params in enumerate(points):
        try:
            found.append(make_candidate(spec, params, "given" if number < given else drawn, most))
        except MisplacedLayer as error:
            raise SpecRejected([(("model", "layers", *error.where), str(error))]) from None
        except ValueError as error:
            rejections.append((("search",), f"candidate {number}: {_explain(error)}"))
            if len(rejections) == MAX_REJECTIONS:
                break
    raise_if_rejected(rejections)
    if spec.search.learns and len(points) == given + count_draws_now(spec):
        _leave_room(spec, found)
    return fit_budget(spec, found)


def _leave_room(spec: JobSpec, drawn: Candidates) -> None:
    """Put placeholders among what is drawn now, for what a model proposes later."""
    later = Candidate({}, sum(one.multiply_adds for one in drawn) / len(drawn), "model")
    if not isinstance(spec.search, Hyperband):
        drawn += [later] * (count_trials(spec) - len(drawn))
        return
    end = 0
    for candidates, draws in count_by_bracket(spec):
        drawn[end + draws : end + draws] = [later] * (candidates - draws)
        end += candidates


def make_candidate(spec: JobSpec, params: Point, origin: str, n_resources: int | None = None) -> Candidate:
    """The candidate with these hyperparameters.

    Raises:
        ValueError: the model does not take them, or cannot be built with them.
    """
    model, dataset = spec.model_class, spec.data
    complete = model.model_validate(spec.hyperparameters(params, n_resources))
    if spec.task == "regression" and getattr(complete, "class_weight", "none") != "none":
        raise ValueError(f"class_weight weighs classes, which {dataset.name} has not: leave it out")
    cost = complete.training_cost(dataset.shape, dataset.classes)
    return Candidate(params, float(cost * spec.train_samples), origin)


def _list_allowed(spec: JobSpec) -> tuple[list[Point], int]:
    """The given points, then the allowed ones of the search, and how many forbidden points came before the last.

    Raises:
        SpecRejected: too few points are allowed.
    """
    given = spec.search.points_to_evaluate
    wanted = count_draws_now(spec)
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
    exhausted = spec.search.space_field == "param_grid" or allowed + skipped == count_points(spec)
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
    if points := count_points(spec):
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
        places = ((".".join(map(str, one["loc"])), one["msg"].removeprefix("Value error, ")) for one in error.errors())
        return "; ".join(f"{place} {message}".strip() for place, message in places)
    return str(error)
