"""Tunewell's strategies on the recorded table: its own planning and proposing, with a look-up in place of training."""

from itertools import pairwise
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np

from app.tuning.jobs.births import Birth
from app.tuning.search.candidates import count_trials, draw_candidates
from app.tuning.search.models import Candidate
from app.tuning.search.plan import find_below, make_plan
from app.tuning.search.rungs import Rung, select_best, select_top
from app.tuning.search.spec import JobSpec
from app.tuning.search.strategies import TpeSearch
from app.tuning.search.tpe import split_history
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
    hyperband = {"strategy": "hyperband", "max_resources": EPOCHS}
    times = budget // count_epochs(_over_space(hyperband))
    return {
        "random": [_over_space({"strategy": "random", "n_iter": full})],
        "random with twice the epochs": [_over_space({"strategy": "random", "n_iter": 2 * full})],
        "one-epoch discarding": [_fill(discarding, budget)],
        "halving": [_fill(halving, budget)],
        "hyperband": [_over_space(hyperband)] * times,
        "tpe": [_over_space({"strategy": "tpe", "n_iter": full})],
    }


def replay(search: Search, seed: int, table: Table) -> Found:
    """The search's winner, by the functions that the service decides with."""
    spec = make_spec(search, random_state=seed)
    candidates = draw_candidates(spec)
    if isinstance(spec.search, TpeSearch):
        candidates[:] = _propose_all(spec, spec.search, candidates, table)
    plan = make_plan(spec, len(candidates))
    waiting = [find_row(one.params) for one in candidates]
    lasts: list[int] = []
    for bracket in sorted({rung.bracket for rung in plan}):
        rungs = [rung for rung in plan if rung.bracket == bracket]
        own, waiting = waiting[: rungs[0].n_candidates], waiting[rungs[0].n_candidates :]
        lasts += _run_bracket(rungs, own, table)
    best = select_best(table.full[lasts])
    assert best is not None
    return Found(lasts[best], count_epochs(search))


def count_epochs(search: Search) -> int:
    """The epochs of each fold that a search trains; a rung goes on from the one below."""
    spec = make_spec(search)
    plan = make_plan(spec, count_trials(spec))
    return sum(rung.n_candidates * ((rung.n_resources or EPOCHS) - find_below(plan, rung)) for rung in plan)


def _run_bracket(rungs: list[Rung], rows: list[int], table: Table) -> list[int]:
    """The rows that reach the last rung, in its order."""
    for rung, following in pairwise(rungs):
        means = np.array([table.mean(row, rung.n_resources) for row in rows])
        rows = [rows[index] for index in select_top(means, following.n_candidates)]
    return rows


def _propose_all(spec: JobSpec, search: TpeSearch, drawn: list[Candidate], table: Table) -> list[Candidate]:
    """The candidates, with those that the model proposes by the results of the ones before."""
    from worker.proposing import propose_candidate

    born: list[Candidate] = []
    for number, one in enumerate(drawn):
        known, running = split_history(born, number, search.max_concurrent_trials)
        history = [(other.params, float(table.full[find_row(other.params)])) for other in known]
        birth = Birth(NO_JOB, spec, number, [*history], [dict(other.params) for other in running])
        proposed = one if one.params else propose_candidate(birth)
        assert proposed is not None, "the space is larger than the search"
        born.append(proposed)
    return born


def _over_space(search: Search) -> Search:
    return {**search, "param_distributions": SPACE}


def _fill(search: Search, budget: int) -> Search:
    """The search with the most candidates that the epochs allow."""
    sizes = range(1, len(CANDIDATES) + 1)
    return max(
        (_over_space({**search, "n_candidates": size}) for size in sizes),
        key=lambda one: (count_epochs(one) <= budget, one["n_candidates"]),
    )
