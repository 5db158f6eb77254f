"""The epochs that a search trains, and how many trials fit into `max_epochs_trained`."""

from typing import NamedTuple

from app.tuning.search.models import Candidates
from app.tuning.search.plan import find_below, make_plan, rung_folds
from app.tuning.search.rejections import SpecRejected
from app.tuning.search.spec import JobSpec
from app.tuning.search.strategies import RandomSearch, TpeSearch


class EpochCount(NamedTuple):
    """The epochs of a job: each rung goes on from the one below, or, at most, each fit starts anew."""

    trained: int
    at_most: int


def count_epochs(spec: JobSpec, candidates: Candidates) -> EpochCount:
    """The epochs of all fits and the refit, without races and reuse.

    Where the candidates' own epochs differ, a higher rung has their mean, or at most those of the longest ones.
    """
    plan, epochs = make_plan(spec, len(candidates)), _list_epochs(spec, candidates)
    trained, at_most = 0.0, 0
    longest = sorted(epochs, reverse=True)
    for rung in plan:
        folds = len(rung_folds(spec, plan, rung))
        if spec.resource == "epochs":
            trained += rung.n_candidates * folds * (rung.n_resources - find_below(plan, rung))
            at_most += rung.n_candidates * folds * rung.n_resources
        else:
            trained += rung.n_candidates * folds * sum(epochs) / len(epochs)
            at_most += folds * sum(longest[: rung.n_candidates])
    last = max(rung.n_resources for rung in plan) if spec.resource == "epochs" else longest[0]
    return EpochCount(round(trained) + last * spec.evaluation.refit, at_most + last * spec.evaluation.refit)


def _list_epochs(spec: JobSpec, candidates: Candidates) -> list[int]:
    """The epochs of one fit of each candidate with all resources; of one that is yet to be proposed, the most."""
    known = [int(spec.fill(one.params).get("epochs", 0)) for one in candidates]
    searched = (space["epochs"] for space in spec.search.spaces if "epochs" in space)
    most = max((max(space) if isinstance(space, list) else int(space.support[1]) for space in searched), default=0)
    return [max(epochs, most) if one.is_unborn else epochs for one, epochs in zip(candidates, known, strict=True)]


def fit_budget(spec: JobSpec, candidates: Candidates) -> Candidates:
    """The candidates that `max_epochs_trained` has room for.

    Raises:
        SpecRejected: there is room for none, or the search would be another one with fewer.
    """
    budget = spec.limits.max_epochs_trained
    if budget is None or (needed := count_epochs(spec, candidates).trained) <= budget:
        return candidates
    kept = 0
    if isinstance(spec.search, RandomSearch | TpeSearch):
        kept = _count_within(spec, _list_epochs(spec, candidates), budget)
        needed = count_epochs(spec, Candidates(candidates[:1])).trained
    if not kept:
        what = "one trial trains" if isinstance(spec.search, RandomSearch | TpeSearch) else "the search trains"
        message = f"{what} {needed:,} epochs, all folds and the refit together: allow as many, or search less"
        raise SpecRejected([(("limits", "max_epochs_trained"), message)])
    del candidates[kept:]
    return candidates


def _count_within(spec: JobSpec, epochs: list[int], budget: int) -> int:
    """How many of the first trials, and a refit of the longest of them, train no more epochs than the budget."""
    total = longest = 0
    for number, own in enumerate(epochs):
        total, longest = total + own * spec.folds, max(longest, own)
        if total + longest * spec.evaluation.refit > budget:
            return number
    return len(epochs)
