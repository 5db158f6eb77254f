"""The plan of a search: its rungs, each with how many candidates get how many resources; all known at the POST."""

import math
from itertools import pairwise
from typing import NoReturn

from app.tuning.search.rejections import SpecRejected
from app.tuning.search.rungs import Rung, plan_halving, plan_hyperband, plan_levels
from app.tuning.search.spec import CrossValidation, JobSpec
from app.tuning.search.strategies import Halving, HalvingRandomSearch, Hyperband, RandomSearch, TpeSearch

MAX_RUNGS = 100


def make_plan(spec: JobSpec, candidates: int) -> list[Rung]:
    """The rungs of a search of so many candidates; one, of 0 resources, where each is trained to the end.

    Raises:
        SpecRejected: the resources do not fit one another, the data or the model.
    """
    search = spec.search
    if isinstance(search, Halving | Hyperband):
        _check_factor(search, candidates)
    if isinstance(search, Hyperband):
        most = _find_most(spec, search, search.min_resources)
        return plan_hyperband(search.min_resources, most, search.factor, search.brackets)
    if not isinstance(search, Halving):
        return [Rung(0, 0, candidates, 0)]
    if search.rung_levels:
        return plan_levels(candidates, _check_levels(spec, search, search.rung_levels), search.factor)
    least = _find_least(spec, search)
    most = _find_most(spec, search, least)
    exhaust = search.min_resources == "exhaust"
    plan = plan_halving(candidates, least, most, search.factor, search.aggressive_elimination, exhaust)
    if search.resource == "folds" and any(after.n_resources == rung.n_resources for rung, after in pairwise(plan)):
        field = "aggressive_elimination" if search.aggressive_elimination else "factor"
        _reject(field, "two rungs would have the same folds: use a factor of 2 or more, and no aggressive elimination")
    return plan


def count_draws(spec: JobSpec) -> int:
    """How many candidates a search over distributions draws, if there are as many.

    Raises:
        SpecRejected: the resources do not make a plan.
    """
    search = spec.search
    if isinstance(search, Hyperband):
        return sum(rung.n_candidates for rung in make_plan(spec, 0) if rung.iter == 0)
    if isinstance(search, RandomSearch | TpeSearch):
        return search.n_iter
    assert isinstance(search, HalvingRandomSearch)
    if search.n_candidates != "exhaust":
        return search.n_candidates
    if search.min_resources == "exhaust":
        _reject("n_candidates", "n_candidates and min_resources cannot both be 'exhaust'")
    if search.rung_levels:
        _reject("n_candidates", "'exhaust' is computed from min_resources: with rung_levels give a number")
    least = _find_least(spec, search)
    return _find_most(spec, search, least) // least


def cost_share(spec: JobSpec, plan: list[Rung], rung: Rung) -> float:
    """The share of a full fit's cost that one fit of the rung has; epochs of the rung below are not trained again."""
    if spec.resource == "epochs":
        return (rung.n_resources - find_below(plan, rung)) / max(one.n_resources for one in plan)
    return rung.n_resources / spec.train_samples if spec.resource == "n_samples" else 1.0


def rung_folds(spec: JobSpec, plan: list[Rung], rung: Rung) -> range:
    """The folds that the rung adds: all of them, unless folds are what grows."""
    if spec.resource != "folds":
        return range(spec.folds)
    return range(find_below(plan, rung), rung.n_resources)


def count_fits(spec: JobSpec, plan: list[Rung]) -> int:
    """The fits of all rungs, and the refit."""
    return sum(rung.n_candidates * len(rung_folds(spec, plan, rung)) for rung in plan) + spec.evaluation.refit


def estimate_cost(spec: JobSpec, plan: list[Rung], costs: list[float]) -> float:
    """Multiply-adds of the whole job, the refit included, from those of each candidate with all resources."""
    mean = sum(costs) / len(costs)
    folds = sum(rung.n_candidates * len(rung_folds(spec, plan, rung)) * cost_share(spec, plan, rung) for rung in plan)
    return mean * folds * spec.train_share + max(costs) * spec.evaluation.refit


def find_below(plan: list[Rung], rung: Rung) -> int:
    """The resources of the rung below, 0 if there is none."""
    below = (one.n_resources for one in plan if one.bracket == rung.bracket and one.iter < rung.iter)
    return max(below, default=0)


def _find_least(spec: JobSpec, search: Halving) -> int:
    assert hasattr(search, "min_resources")
    wanted: int | str = search.min_resources
    smallest = _find_smallest(spec, search)
    if isinstance(wanted, str):
        return smallest
    if search.resource == "n_samples" and wanted < 2 * spec.folds:
        _reject("min_resources", f"{spec.folds} folds need at least {2 * spec.folds} samples")
    return wanted


def _find_smallest(spec: JobSpec, search: Halving) -> int:
    """scikit-learn's `smallest`: for samples two of each class in each fold, else 1."""
    return 2 * spec.folds * max(1, spec.data.classes) if search.resource == "n_samples" else 1


def _find_most(spec: JobSpec, search: Halving | Hyperband, least: int) -> int:
    limits = {"n_samples": spec.train_samples, "folds": spec.folds}
    auto = spec.max_epochs if search.resource == "epochs" else limits[search.resource]
    most = auto if search.max_resources == "auto" else search.max_resources
    _check_resource(spec, search, most, "max_resources")
    if least > most:
        _reject("min_resources", f"min_resources is {least}, more than max_resources, which is {most}")
    return most


def _check_factor(search: Halving | Hyperband, candidates: int) -> None:
    most = 1000 if search.resource == "epochs" else 60_000
    if math.log(max(candidates, most)) > MAX_RUNGS * math.log(search.factor):
        _reject("factor", f"{search.factor} would make more than {MAX_RUNGS} rungs: use a larger factor, such as 3")


def _check_levels(spec: JobSpec, search: Halving, levels: list[int]) -> list[int]:
    if any(after <= before for before, after in pairwise(levels)):
        _reject("rung_levels", "each level must be greater than the one before")
    _check_resource(spec, search, levels[-1], "rung_levels")
    return levels


def _check_resource(spec: JobSpec, search: Halving | Hyperband, most: int, field: str) -> None:
    """Whether any candidate can have so many resources."""
    if search.resource == "epochs":
        if "epochs" not in spec.model_class.model_fields:
            _reject("resource", f"{spec.model_class.name} has no epochs: use n_samples or folds")
        if most > 1000:
            _reject(field, f"{most} epochs: a model has at most 1000")
        if "epochs" in spec.fixed and most != spec.max_epochs:
            _reject(field, f"{most} epochs, but `fixed` has {spec.max_epochs}: give one of them")
    elif search.resource == "n_samples" and most > spec.train_samples:
        _reject(field, f"{most} samples: the job has {spec.train_samples} training samples")
    elif search.resource == "folds":
        if not isinstance(spec.evaluation, CrossValidation):
            _reject("resource", "folds need cross-validation: use epochs or n_samples")
        if most > spec.folds:
            _reject(field, f"{most} folds: the job has {spec.folds}")


def _reject(field: str, message: str) -> NoReturn:
    raise SpecRejected([(("search", field), message)])
