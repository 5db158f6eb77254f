"""How many candidates a search has, computed without expanding it, and how many of them are drawn at once."""

import math

from app.tuning.search.plan import count_draws, make_plan
from app.tuning.search.spec import JobSpec
from app.tuning.search.strategies import GridSearch, HalvingGridSearch, TpeSearch


def count_trials(spec: JobSpec) -> int:
    """The number of trials, computed without expanding the search.

    Raises:
        SpecRejected: its resources do not make a plan.
    """
    search = spec.search
    if isinstance(search, GridSearch | HalvingGridSearch):
        points = sum(math.prod(len(values) for values in grid.values()) for grid in search.spaces)
        return points + len(search.points_to_evaluate)
    points_left = count_points(spec)
    draws, given = count_draws(spec), len(search.points_to_evaluate)
    return draws if points_left is None else min(draws, given + points_left)


def count_draws_now(spec: JobSpec) -> int:
    """How many points are drawn when the job is posted; a model proposes the others later."""
    left = count_trials(spec) - len(spec.search.points_to_evaluate)
    if isinstance(spec.search, TpeSearch):
        return max(0, min(left, spec.search.n_startup_trials - len(spec.search.points_to_evaluate)))
    if spec.search.learns:
        return max(0, sum(draws for _, draws in count_by_bracket(spec)) - len(spec.search.points_to_evaluate))
    return left


def count_by_bracket(spec: JobSpec) -> list[tuple[int, int]]:
    """Of each bracket of a search whose brackets a model proposes: its candidates, and how many are drawn at once.

    These are all of the first bracket's, and a third of the others', rounded up, so that no bracket is a model's alone.
    """
    first, *others = (rung.n_candidates for rung in make_plan(spec, 0) if rung.iter == 0)
    return [(first, first), *((candidates, -(-candidates // 3)) for candidates in others)]


def count_points(spec: JobSpec) -> int | None:
    """The points of a search over lists only, drawn without replacement; None if it has distributions."""
    spaces = spec.search.spaces
    if all(isinstance(space, list) for one in spaces for space in one.values()):
        return sum(math.prod(len(space) for space in one.values()) for one in spaces)
    return None
