"""The next candidate of a search, proposed by Optuna's TPE (tree-structured Parzen estimator).

A pure function of what is known: each call has a study and samplers of its own, seeded by the trial's number. Only this
module imports Optuna, which takes a while to load.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from math import isclose, nextafter, prod
from typing import Any, NamedTuple

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import TrialState, create_trial

from app.tuning.jobs.births import Birth
from app.tuning.search.candidates import make_candidate
from app.tuning.search.forbidden import compile_forbidden, is_forbidden
from app.tuning.search.models import Candidate, Value
from app.tuning.search.plan import make_plan
from app.tuning.search.spaces import LogUniform, RandInt
from app.tuning.search.strategies import Hyperband

Point = dict[str, Value]
Check = Callable[[Point], bool]
STREAM = 7  # of `random_state`: the draws of proposals
MAX_REDRAWS = 20
MAX_RANDOM_DRAWS = 1_000
MAX_LISTED = 100_000  # points of a space that is searched for a new one
DIGITS = 12  # of a proposed float: further ones depend on the kind of processor

optuna.logging.set_verbosity(optuna.logging.WARNING)


class _Axis(NamedTuple):
    """One hyperparameter as Optuna sees it: a list's values, numbers in ascending order, by their indices."""

    distribution: BaseDistribution
    values: Sequence[Value] | None = None


_Axes = dict[str, _Axis]
_Place = dict[str, int | float]  # where a point is on the axes of a space: indices, and floats as they are


class _Told(NamedTuple):
    """A trial as Optuna is told of it: its space, where it is there, and its value; None: it is running."""

    space: int
    place: _Place
    value: float | None


def propose_candidate(birth: Birth) -> Candidate | None:
    """The candidate of a trial: a pure function of what the trial depends on; None if the space is used up."""
    spec = birth.spec
    conjunctions = compile_forbidden(spec)
    most = max(rung.n_resources for rung in make_plan(spec, 0))

    def is_allowed(point: Point) -> bool:
        try:
            make_candidate(spec, point, "model", most)
        except ValueError:
            return False
        return not (conjunctions and is_forbidden(conjunctions, spec.fill(point)))

    known = (birth.history, birth.running)
    point = propose(spec.search.spaces, *known, spec.random_state, birth.number, is_allowed)
    if point is None and isinstance(spec.search, Hyperband):  # its brackets must be full: a point comes twice
        point = propose(spec.search.spaces, (), (), spec.random_state, birth.number, is_allowed)
    return None if point is None else make_candidate(spec, point, "model", most)


def propose(
    spaces: Sequence[Mapping[str, Any]],
    history: Sequence[tuple[Mapping[str, Value], float | None]],
    running: Sequence[Mapping[str, Value]],
    seed: int,
    number: int,
    is_allowed: Check = lambda point: True,
) -> Point | None:
    """The point of trial `number`: allowed, and unlike those in `history` and `running`; None if there is none left.

    `spaces` are the alternatives of `param_distributions` and `seed` is the job's `random_state`. `history` has the
    hyperparameters and the mean validation accuracy of each ended trial; None, if it failed, counts as the worst. A
    point that was given needs its complete hyperparameters there. Points outside all spaces are not used.
    """
    worst = min((value for _, value in history if value is not None), default=0.0)
    values: list[tuple[Mapping[str, Value], float | None]] = [
        *((params, worst if value is None else value) for params, value in history),
        *((params, None) for params in running),
    ]
    alternatives = [_make_axes(space) for space in spaces]
    told = [one for params, value in values if (one := _place(alternatives, params, value))]
    seen = {_key(_read(alternatives[one.space], one.place)) for one in told}
    space_seed, point_seed = np.random.SeedSequence([seed, STREAM, number]).generate_state(2).tolist()
    for index in _order_spaces(len(spaces), told, space_seed):
        own = [one for one in told if one.space == index]
        new = _propose_within(alternatives[index], own, point_seed, lambda it: _key(it) not in seen and is_allowed(it))
        if new is not None:
            return new
    return None


def _order_spaces(number: int, told: list[_Told], seed: int) -> list[int]:
    """The alternative that TPE proposes, then the others, for the case that it is used up."""
    if number == 1:
        return [0]
    axes = {"space": _Axis(CategoricalDistribution(range(number)))}
    places = [one._replace(place={"space": one.space}) for one in told]
    first = next(_ask(axes, places, TPESampler(n_startup_trials=0, seed=seed), 1))["space"]
    return sorted(range(number), key=lambda index: (index != first, index))


def _propose_within(axes: _Axes, told: list[_Told], seed: int, is_new: Check) -> Point | None:
    """TPE's first new point; else the one nearest to its first proposal, or, if there are too many, a random one."""
    wanted: _Place = {}
    for place in _ask(axes, told, TPESampler(n_startup_trials=0, seed=seed), 1 + MAX_REDRAWS):
        wanted = wanted or place
        if is_new(point := _read(axes, place)):
            return point
    if (places := _list_places(axes)) is None:
        others = _ask(axes, [], RandomSampler(seed=seed), MAX_RANDOM_DRAWS)
    else:
        others = iter(sorted(places, key=lambda place: _distance(axes, place, wanted)))
    return next((point for place in others if is_new(point := _read(axes, place))), None)


def _ask(axes: _Axes, told: list[_Told], sampler: BaseSampler, asks: int) -> Iterator[_Place]:
    """Proposals of a sampler that knows these trials; each counts as running when the next is made."""
    distributions = {name: axes[name].distribution for name in sorted(axes)}
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for one in told:
        state = TrialState.RUNNING if one.value is None else TrialState.COMPLETE
        study.add_trial(create_trial(state=state, params=one.place, distributions=distributions, value=one.value))
    for _ in range(asks):
        yield study.ask(distributions).params


def _make_axes(space: Mapping[str, Any]) -> _Axes:
    return {name: _make_axis(values) for name, values in space.items()}


def _make_axis(space: Any) -> _Axis:
    if isinstance(space, RandInt):
        return _Axis(IntDistribution(0, space.high - space.low - 1), range(space.low, space.high))
    if not isinstance(space, list):
        low, high = space.support
        return _Axis(FloatDistribution(low, high, log=isinstance(space, LogUniform)))
    if any(isinstance(value, str) for value in space):
        choices = list(dict.fromkeys(space))
        return _Axis(CategoricalDistribution(range(len(choices))), choices)
    numbers = sorted(set(space))
    return _Axis(IntDistribution(0, len(numbers) - 1), numbers)


def _place(alternatives: list[_Axes], params: Mapping[str, Value], value: float | None) -> _Told | None:
    """The trial in the space whose names it has, or else the first that it includes; None if it is in no space."""
    for index in sorted(range(len(alternatives)), key=lambda index: alternatives[index].keys() != params.keys()):
        axes = alternatives[index]
        if axes.keys() <= params.keys():
            place = {name: where for name, axis in axes.items() if (where := _find(axis, params[name])) is not None}
            if len(place) == len(axes):
                return _Told(index, place, value)
    return None


def _find(axis: _Axis, value: Value) -> int | float | None:
    """Where on the axis the value is; None outside. scikit-learn's draws may pass a bound by a rounding error."""
    if isinstance(axis.distribution, FloatDistribution):
        low, high = axis.distribution.low, axis.distribution.high
        if isinstance(value, str) or not (low <= value <= high or isclose(value, low) or isclose(value, high)):
            return None
        return min(max(value, low), high)
    values = axis.values
    if isinstance(values, range) and not isinstance(value, int):
        return None
    return values.index(value) if values and value in values else None


def _read(axes: _Axes, place: _Place) -> Point:
    """The hyperparameters at a place on the axes."""
    return {name: _read_axis(axis, place[name]) for name, axis in axes.items()}


def _read_axis(axis: _Axis, where: int | float) -> Value:
    if axis.values is not None:
        return axis.values[int(where)]
    assert isinstance(axis.distribution, FloatDistribution)
    low, high = axis.distribution.low, axis.distribution.high
    rounded = float(f"{where:.{DIGITS}g}")
    return min(max(rounded, nextafter(low, high)), nextafter(high, low))  # the model may exclude the bound itself


def _key(point: Point) -> frozenset[tuple[str, Value]]:
    return frozenset(point.items())


def _list_places(axes: _Axes) -> list[_Place] | None:
    """All places of a finite space; None if they are too many."""
    sizes = [len(axis.values) if axis.values is not None else MAX_LISTED + 1 for axis in axes.values()]
    if prod(sizes) > MAX_LISTED:
        return None
    return [dict(zip(axes, indices, strict=True)) for indices in product(*map(range, sizes))]


def _distance(axes: _Axes, place: _Place, other: _Place) -> float:
    """The sum of the differences, each as a share of its axis; between two strings 1."""
    return sum(
        (place[name] != other[name])
        if isinstance(axis.distribution, CategoricalDistribution)
        else abs(place[name] - other[name]) / len(axis.values or ())
        for name, axis in axes.items()
    )
