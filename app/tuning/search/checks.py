"""What is wrong with a posted search, as far as it can be seen before its candidates are drawn."""

import math
from collections.abc import Iterator

from app.tuning.search.counts import count_by_bracket, count_points, count_trials
from app.tuning.search.datasets import Dataset
from app.tuning.search.forbidden import check_forbidden
from app.tuning.search.models import Model
from app.tuning.search.own_networks import LayerList
from app.tuning.search.placeholders import find_uses, list_names
from app.tuning.search.plan import count_draws
from app.tuning.search.registry import MODELS
from app.tuning.search.rejections import Rejection, raise_if_rejected, reject_value
from app.tuning.search.scoring import list_scorings
from app.tuning.search.spaces import Distribution
from app.tuning.search.spec import BootstrapRace, CrossValidation, JobSpec
from app.tuning.search.strategies import GridSearch, HalvingGridSearch, Hyperband

MAX_TRIALS = 10_000
MAX_POINTS = 2**63 - 1  # combinations of lists: the limit of scikit-learn's sampler


def check_search(spec: JobSpec) -> None:
    """Check what a schema cannot tell.

    Raises:
        SpecRejected: the search is too large, or it does not fit the model or the data set.
    """
    for check in (
        _check_dataset,
        _check_scoring,
        _check_placeholders,
        _check_refit,
        _check_race,
        _check_warm_start,
        _check_count,
        _check_space,
        check_forbidden,
    ):
        raise_if_rejected(check(spec))


def _check_dataset(spec: JobSpec) -> Iterator[Rejection]:
    dataset = spec.data
    for field, most in (("train_samples", dataset.train_samples), ("test_samples", dataset.test_samples)):
        wanted = getattr(spec.dataset, field)
        if wanted is not None and wanted > most:
            yield ("dataset", field), f"{dataset.name} has {most} samples: use 1 to {most}, or null for all"
    model = spec.model_class
    yield from _check_model(model, dataset)
    if model.max_train_samples and spec.train_samples > model.max_train_samples:
        message = f"{model.name} trains on at most {model.max_train_samples:,} samples: use fewer train_samples"
        yield ("dataset", "train_samples"), message
    yield from _check_folds(spec, dataset)


def _check_model(model: type[Model], dataset: Dataset) -> Iterator[Rejection]:
    is_table = dataset.kind == "table"
    able = [name for name, one in MODELS.items() if dataset.task in one.tasks and (one.takes_tables or not is_table)]
    if dataset.task not in model.tasks:
        reason = f"is for {model.tasks[0]}, and {dataset.name} is {dataset.task}"
    elif is_table and not model.takes_tables:
        reason = f"needs images, and {dataset.name} is a table"
    else:
        return
    yield ("model",), f"{model.name} {reason}: use one of {', '.join(able)}"


def _check_placeholders(spec: JobSpec) -> Iterator[Rejection]:
    if not isinstance(spec.model, LayerList):
        return
    given = {*spec.fixed, *(name for one in (*spec.search.spaces, *spec.search.points_to_evaluate) for name in one)}
    for use in find_uses(spec.model.layers):
        if not given & set(list_names(use)):
            yield ("model", "layers", *use.where), f"{use.name} has no value: search it, or put it into `fixed`"


def _check_folds(spec: JobSpec, dataset: Dataset) -> Iterator[Rejection]:
    samples = spec.train_samples
    if isinstance(spec.evaluation, CrossValidation):
        cv = spec.evaluation.cv
        fewest = dataset.smallest_for(cv)
        if samples < fewest:
            yield (
                ("dataset", "train_samples"),
                f"cv={cv} needs {'a class with ' if dataset.classes else ''}at least {cv} samples: "
                f"use {fewest} or more train_samples",
            )
    elif not 0 < math.floor(samples * (1 - spec.evaluation.validation_split)) < samples:
        yield (
            ("evaluation", "validation_split"),
            f"must leave at least one of the {samples} training samples for training and one for validation",
        )


def _check_scoring(spec: JobSpec) -> Iterator[Rejection]:
    model, dataset = spec.model_class, spec.data
    able = list_scorings(dataset.task, dataset.classes, model.gives_probabilities)
    if spec.scoring in able:
        return
    if spec.scorer.task != dataset.task:
        reason = f"is for {spec.scorer.task}, and {dataset.name} is {dataset.task}"
    elif dataset.classes > 2 and spec.scorer.of_more_classes:
        reason = f"is for two classes, and {dataset.name} has {dataset.classes}"
        others = (spec.scorer.of_more_classes, *able)
        able = [name for name in dict.fromkeys(others) if name in able]
    else:
        reason = f"needs probabilities, which {model.name} does not give"
    yield ("evaluation", "scoring"), f"{spec.scoring} {reason}: use one of {', '.join(able)}"


def _check_refit(spec: JobSpec) -> Iterator[Rejection]:
    if spec.evaluation.keep_model and not spec.evaluation.refit:
        message = "without a refit there is no model to keep: use refit true, or leave keep_model out"
        yield ("evaluation", "keep_model"), message


def _check_race(spec: JobSpec) -> Iterator[Rejection]:
    if not spec.race:
        return
    if isinstance(spec.race, BootstrapRace) and spec.scoring != "accuracy":
        message = f"a bootstrap race is decided by rows that are right or wrong, not by {spec.scoring}: use 'lossless'"
        yield ("evaluation", "race", "method"), message
    if spec.race.burn_in >= spec.folds:
        yield (
            ("evaluation", "race", "burn_in"),
            f"of {spec.folds} folds a race can spare some only if burn_in is {spec.folds - 1} or less",
        )
    if spec.search.learns:
        yield ("evaluation", "race"), "a model learns from all folds of a trial: use null, or draw at random"
    if spec.resource == "folds":
        yield ("evaluation", "race"), "folds are what grows from rung to rung: race over epochs or n_samples"
    if spec.select != "best":
        yield ("evaluation", "select"), "a race drops trials that one standard error needs: use 'best', or no race"


def _check_warm_start(spec: JobSpec) -> Iterator[Rejection]:
    if spec.warm_start and not spec.search.learns:
        yield ("warm_start",), "only the strategy 'tpe', or 'hyperband' with the sampler 'tpe', learns from other jobs"


def _check_space(spec: JobSpec) -> Iterator[Rejection]:
    model = spec.model_class
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
    room = trials
    if isinstance(spec.search, Hyperband) and spec.search.learns:
        room = sum(draws for _, draws in count_by_bracket(spec))
    if given > room:
        yield ("search", "points_to_evaluate"), f"{given} points, but the search has room for {room}"
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
    elif not isinstance(spec.search, GridSearch | HalvingGridSearch) and (count_points(spec) or 0) > MAX_POINTS:
        yield ("search", "param_distributions"), f"the lists must have at most {MAX_POINTS:,} combinations in total"
