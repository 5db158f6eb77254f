"""Tunewell's strategies on the recorded table: its own planning and proposing, with a look-up in place of training."""

from typing import Any, NamedTuple
from uuid import UUID

import numpy as np

from app.tuning.jobs.births import Birth
from app.tuning.search.candidates import draw_candidates
from app.tuning.search.counts import count_trials
from app.tuning.search.models import Candidate
from app.tuning.search.plan import find_below, make_plan
from app.tuning.search.rungs import Rung, select_best, select_top
from app.tuning.search.spec import JobSpec
from app.tuning.search.strategies import TpeSearch
from app.tuning.search.tpe import split_brackets, split_history
from benchmarks.table import CANDIDATES, EPOCHS, SPACE, Table, find_row, make_spec

Search = dict[str, Any]
NO_JOB = UUID(int=0)


class Found(NamedTuple):
    """The winner's row of the table, and the epochs that were trained of each fold."""

    row: int
    epochs: int


def make_searches(budget: int) -> dict[str, list[Search]]:
    """By title, each strategy with as many candidates as the epochs allow; several searches follow one another."""
    full = budget // EPOCHS
    halving = {"strategy": "halving_random", "max_resources": EPOCHS}
    discarding = {"strategy": "halving_random", "rung_levels": [1, EPOCHS], "factor": EPOCHS}
    hyperband = _over_space({"strategy": "hyperband", "max_resources": EPOCHS})
    times = budget // count_epochs(hyperband)
    return {
        "random": [_over_space({"strategy": "random", "n_iter": full})],
        "random with twice the epochs": [_over_space({"strategy": "random", "n_iter": 2 * full})],
        "one-epoch discarding": [_fill(discarding, budget)],
        "halving": [_fill(halving, budget)],
        "hyperband": [hyperband] * times,
        "hyperband by tpe": [{**hyperband, "sampler": "tpe"}] * times,
        "tpe": [_over_space({"strategy": "tpe", "n_iter": full})],
    }


def replay(search: Search, seed: int, table: Table) -> Found:
    """The search's winner, by the functions that the service decides with."""
    spec = make_spec(search, random_state=seed)
    candidates = draw_candidates(spec)
    plan = make_plan(spec, len(candidates))
    brackets = [rung.bracket for rung in plan if rung.iter == 0 for _ in range(rung.n_candidates)]
    accuracies: list[float] = []
    ended: list[int] = []
    for bracket in sorted(set(brackets)):
        rungs = [rung for rung in plan if rung.bracket == bracket]
        numbers = [number for number, own in enumerate(brackets) if own == bracket]
        for number in numbers:
            if not candidates[number].params:
                candidates[number] = _propose(spec, candidates, accuracies, brackets, number)
            accuracies.append(_look_up(table, candidates[number], rungs[0]))
        for following in rungs[1:]:
            means = np.array([accuracies[number] for number in numbers])
            numbers = [numbers[index] for index in select_top(means, following.n_candidates)]
            for number in numbers:
                accuracies[number] = _look_up(table, candidates[number], following)
        ended += numbers
    best = select_best(np.array([accuracies[number] for number in ended]))
    assert best is not None
    return Found(find_row(candidates[ended[best]].params), count_epochs(search))


def count_epochs(search: Search) -> int:
    """The epochs of each fold that a search trains; a rung goes on from the one below."""
    spec = make_spec(search)
    plan = make_plan(spec, count_trials(spec))
    return sum(rung.n_candidates * ((rung.n_resources or EPOCHS) - find_below(plan, rung)) for rung in plan)


def _look_up(table: Table, candidate: Candidate, rung: Rung) -> float:
    return table.mean(find_row(candidate.params), rung.n_resources or EPOCHS)


def _propose(
    spec: JobSpec, candidates: list[Candidate], accuracies: list[float], brackets: list[int], number: int
) -> Candidate:
    """The candidate that the model proposes by the results of the ones before."""
    from worker.proposals import propose_candidate

    if isinstance(spec.search, TpeSearch):
        known, running = split_history(range(len(candidates)), number, spec.search.max_concurrent_trials)
    else:
        known, running = split_brackets(range(len(candidates)), brackets, number)
    history: list[Any] = [(candidates[other].params, accuracies[other]) for other in known]
    proposed = propose_candidate(Birth(NO_JOB, spec, number, history, [candidates[other].params for other in running]))
    assert proposed is not None, "the space is larger than the search"
    return proposed


def _over_space(search: Search) -> Search:
    return {**search, "param_distributions": SPACE}


def _fill(search: Search, budget: int) -> Search:
    """The search with the most candidates that the epochs allow."""
    sizes = range(1, len(CANDIDATES) + 1)
    return max(
        (_over_space({**search, "n_candidates": size}) for size in sizes),
        key=lambda one: (count_epochs(one) <= budget, one["n_candidates"]),
    )
