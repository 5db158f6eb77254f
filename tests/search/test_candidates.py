"""Searches are counted before they are drawn, rejected with reasons, and equal scikit-learn's bit for bit."""

import json
import math
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.random import RandomState
from pydantic import ValidationError
from scipy import stats
from sklearn.model_selection import ParameterGrid, ParameterSampler

from app.tuning.search.candidates import draw_candidates
from app.tuning.search.checks import MAX_POINTS
from app.tuning.search.counts import count_trials
from app.tuning.search.datasets import DATASETS
from app.tuning.search.models import Cnn
from app.tuning.search.rejections import SpecRejected
from app.tuning.search.spaces import LogUniform, RandInt, ScaledUniform, Uniform
from app.tuning.search.spec import JobSpec

ARTICLE = {
    "learning_rate": {"distribution": "reciprocal", "low": 0.001, "high": 0.1},
    "dropout_rate": {"distribution": "uniform", "loc": 0.1, "scale": 0.3},
    "num_neurons": [128, 256, 512],
}


def posted(search: dict[str, Any], **changes: Any) -> JobSpec:
    body = {"dataset": {"name": "digits"}, "search": search, **changes}
    return JobSpec.model_validate_json(json.dumps(body))


def grid(param_grid: Any, **changes: Any) -> JobSpec:
    return posted({"strategy": "grid", "param_grid": param_grid}, **changes)


def draws(param_distributions: Any, n_iter: int = 10, **changes: Any) -> JobSpec:
    search = {"strategy": "random", "param_distributions": param_distributions, "n_iter": n_iter}
    return posted(search, **changes)


def params(spec: JobSpec) -> list[dict[str, Any]]:
    return [candidate.params for candidate in draw_candidates(spec)]


def rejections(spec: JobSpec) -> dict[str, str]:
    """The messages of the rejections by path."""
    with pytest.raises(SpecRejected) as caught:
        draw_candidates(spec)
    assert 1 <= len(caught.value.rejections) <= 10
    return {"/".join(map(str, where)): message for where, message in caught.value.rejections}


def test_the_articles_first_candidate_is_reproduced() -> None:
    first = params(draws(ARTICLE, random_state=42))[0]
    assert first == {"dropout_rate": 0.21236203565420875, "learning_rate": 0.07969454818643935, "num_neurons": 512}
    assert [type(value) for value in first.values()] == [float, float, int]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (ScaledUniform(distribution="uniform", loc=0.1, scale=0.3), stats.uniform(0.1, 0.3)),
        (ScaledUniform(distribution="uniform", loc=-7.3, scale=1e-9), stats.uniform(-7.3, 1e-9)),
        (Uniform(distribution="uniform", low=0.1, high=0.7), stats.uniform(0.1, 0.7 - 0.1)),
        (LogUniform(distribution="loguniform", low=0.001, high=0.1), stats.loguniform(0.001, 0.1)),
        (LogUniform(distribution="reciprocal", low=3e-7, high=9.0), stats.reciprocal(3e-7, 9.0)),
        (LogUniform(distribution="loguniform", low=0.3, high=0.30000001), stats.loguniform(0.3, 0.30000001)),
        (RandInt(distribution="randint", low=16, high=257), stats.randint(16, 257)),
        (RandInt(distribution="randint", low=-(2**40), high=2**40), stats.randint(-(2**40), 2**40)),
    ],
    ids=lambda value: str(value).partition(" object at ")[0],
)
def test_draws_equal_scipys_bit_for_bit(ours: Any, theirs: Any) -> None:
    mine, its = RandomState(7), RandomState(7)
    drawn = [ours.rvs(random_state=mine) for _ in range(10_000)]
    assert drawn == theirs.rvs(size=10_000, random_state=its).tolist()
    assert mine.randint(2**31) == its.randint(2**31), "and they leave the generator in the same state"


def test_single_draws_equal_scipys_too() -> None:
    ours, theirs = LogUniform(distribution="loguniform", low=0.001, high=0.1), stats.loguniform(0.001, 0.1)
    mine, its = RandomState(3), RandomState(3)
    assert [ours.rvs(mine) for _ in range(200)] == [float(theirs.rvs(random_state=its)) for _ in range(200)]


MIXED = [
    {"learning_rate": {"distribution": "loguniform", "low": 0.001, "high": 1.0}, "optimizer": ["sgd", "adam"]},
    {"num_neurons": {"distribution": "randint", "low": 16, "high": 257}, "filters": [4, 8, 16]},
    {"dropout_rate": {"distribution": "uniform", "low": 0.1, "high": 0.9}, "l2": [0, 0.1]},
    {"batch_size": [16, 32]},
]
MIXED_BY_SCIPY = [
    {"learning_rate": stats.loguniform(0.001, 1.0), "optimizer": ["sgd", "adam"]},
    {"num_neurons": stats.randint(16, 257), "filters": [4, 8, 16]},
    {"dropout_rate": stats.uniform(0.1, 0.9 - 0.1), "l2": [0, 0.1]},
    {"batch_size": [16, 32]},
]


@pytest.mark.parametrize("random_state", [0, 42, 2**32 - 1])
def test_a_search_over_lists_of_spaces_equals_scikit_learns_over_scipys(random_state: int) -> None:
    theirs = list(ParameterSampler(MIXED_BY_SCIPY, 300, random_state=random_state))
    assert params(draws(MIXED, 300, random_state=random_state)) == theirs


def test_a_longer_search_starts_with_the_draws_of_a_shorter_one() -> None:
    assert params(draws(ARTICLE, 50, random_state=5))[:20] == params(draws(ARTICLE, 20, random_state=5))


GRIDS = [
    {"num_neurons": [16, 8], "learning_rate": [0.1, 0.01], "activation": ["tanh", "relu"]},
    {},
    [{"optimizer": ["sgd"], "momentum": [0.5, 0.9]}, {"optimizer": ["adam", "nadam"]}, {}],
    {"num_neurons": [8, 8, 8]},
]


@pytest.mark.parametrize("param_grid", GRIDS)
def test_a_grid_has_scikit_learns_order(param_grid: Any) -> None:
    spec = grid(param_grid)
    assert params(spec) == list(ParameterGrid(param_grid))
    assert count_trials(spec) == len(draw_candidates(spec))


def test_lists_are_drawn_without_replacement() -> None:
    lists = {"num_neurons": list(range(1, 41)), "filters": [4, 8]}
    drawn = params(draws(lists, 79, random_state=1))
    assert drawn == list(ParameterSampler(lists, 79, random_state=1))
    assert len({json.dumps(one) for one in drawn}) == 79


@settings(max_examples=100, deadline=None)
@given(
    lists=st.lists(
        st.dictionaries(st.sampled_from(["l1", "l2"]), st.lists(st.sampled_from([0, 0.5, 1]), min_size=1, max_size=4)),
        min_size=1,
        max_size=5,
    ),
    n_iter=st.integers(1, 20),
    random_state=st.integers(0, 2**32 - 1),
)
def test_draws_from_lists_equal_scikit_learns(
    lists: list[dict[str, list[float]]], n_iter: int, random_state: int
) -> None:
    n_iter = min(n_iter, len(ParameterGrid(lists)))
    drawn = params(draws(lists, n_iter, random_state=random_state))
    assert drawn == list(ParameterSampler(lists, n_iter, random_state=random_state))


def test_drawing_from_thousands_of_lists_is_fast() -> None:
    # scikit-learn's sampler scans all spaces for each draw: it would exceed the tests' timeout.
    assert len(draw_candidates(draws([{"l1": [0]}] * 5_000, 5_000))) == 5_000


@pytest.mark.parametrize("lists", [{"num_neurons": [8, 16], "filters": [4, 8]}, [{"filters": [4]}, {"filters": [8]}]])
def test_more_draws_than_points_give_the_grid(lists: Any) -> None:
    spec = draws(lists, 500)
    assert params(spec) == list(ParameterGrid(lists))
    assert count_trials(spec) == len(list(ParameterGrid(lists)))


def test_a_grid_of_a_trillion_points_is_rejected_without_being_expanded() -> None:
    ends = {name: [1] * 1000 for name in ("num_neurons", "filters", "batch_size", "epochs")}
    assert count_trials(grid(ends)) == 10**12
    assert rejections(grid(ends)) == {
        "search": "1,000,000,000,000 trials: a job has at most 10,000; search fewer values, or use random search"
    }


def test_counting_a_huge_grid_takes_almost_no_memory() -> None:
    names = ("num_neurons", "filters", "batch_size", "epochs", "conv_blocks", "kernel_size")
    spec = grid([{name: [1] * 3000 for name in names}] * 2)
    tracemalloc.start()
    try:
        assert rejections(spec)["search"].startswith("Too many trials")
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
    assert count_trials(spec) == 2 * 3000**6


def test_ten_thousand_trials_are_accepted_and_one_more_is_rejected() -> None:
    assert len(draw_candidates(grid({"num_neurons": list(range(1, 101)), "filters": list(range(1, 101))}))) == 10_000
    assert "search" in rejections(grid([{"num_neurons": [1] * 9999}, {"filters": [1, 2]}]))


def test_random_search_has_at_most_max_points() -> None:
    most = {"num_neurons": [1] * 2**16, "filters": [1] * 2**16, "batch_size": [1] * 2**16, "epochs": [1] * (2**15 - 1)}
    spec = draws(most, 5)
    assert len(draw_candidates(spec)) == 5
    beyond = draws({**most, "epochs": [1] * 2**15}, 5)
    assert rejections(beyond) == {
        "search/param_distributions": f"the lists must have at most {MAX_POINTS:,} combinations in total"
    }


@pytest.mark.parametrize(
    ("spec", "where", "message"),
    [
        (
            grid({"neurons": [1]}),
            "search/param_grid/neurons/0",
            "Unknown hyperparameter of cnn; expected one of activation, batch_size",
        ),
        (grid({"num_neurons": [8, 4097]}), "search/param_grid/num_neurons/1", "less than or equal to 4096"),
        (grid([{}, {"num_neurons": [0]}]), "search/param_grid/1/num_neurons/0", "greater than or equal to 1"),
        (grid({"num_neurons": ["8"]}), "search/param_grid/num_neurons/0", "valid integer"),
        (grid({"num_neurons": [True]}), "search/param_grid/num_neurons/0", "valid integer"),
        (grid({"num_neurons": [8.0]}), "search/param_grid/num_neurons/0", "valid integer"),
        (grid({"num_neurons": [None]}), "search/param_grid/num_neurons/0", "valid integer"),
        (grid({"num_neurons": [[8]]}), "search/param_grid/num_neurons/0", "valid integer"),
        (grid({"num_neurons": [10**30]}), "search/param_grid/num_neurons/0", "less than or equal to 4096"),
        (grid({"optimizer": ["lion"]}), "search/param_grid/optimizer/0", "'adam', 'adamw', 'nadam'"),
        (grid({"learning_rate": [0]}), "search/param_grid/learning_rate/0", "greater than 0"),
        (grid({"dropout_rate": [1]}), "search/param_grid/dropout_rate/0", "less than 1"),
        (grid({}, fixed={"depth": 3}), "fixed/depth", "Unknown hyperparameter"),
        (grid({}, fixed={"epochs": 0}), "fixed/epochs", "greater than or equal to 1"),
        (grid({"epochs": [1]}, fixed={"epochs": 2}), "search/param_grid/epochs", "also in `fixed`"),
        (
            draws([{}, {"epochs": {"distribution": "randint", "low": 1, "high": 3}}], fixed={"epochs": 2}),
            "search/param_distributions/1/epochs",
            "also in `fixed`",
        ),
        (
            grid({"momentum": [0.9]}),
            "search",
            "candidate 0: momentum 0.9 requires the optimizer sgd or rmsprop; with adam",
        ),
        (
            grid({"momentum": [0.0, 0.9], "optimizer": ["sgd", "nadam"]}),
            "search",
            "candidate 3: momentum 0.9 requires the optimizer sgd or rmsprop; with nadam",
        ),
        (
            grid({"conv_blocks": [1, 2, 3]}),
            "search",
            "candidate 2: conv_blocks 3 with kernel_size 3 shrinks the feature",
        ),
        (grid({"kernel_size": [7]}, fixed={"conv_blocks": 2}), "search", "8 by 8 image to nothing in block 2"),
        (
            draws({"num_neurons": {"distribution": "uniform", "low": 8, "high": 64}}),
            "search/param_distributions/num_neurons",
            "num_neurons is an integer: use a list or the distribution 'randint'",
        ),
        (
            draws({"optimizer": {"distribution": "randint", "low": 0, "high": 3}}),
            "search/param_distributions/optimizer",
            "'adam', 'adamw'",
        ),
        (
            draws({"dropout_rate": {"distribution": "uniform", "loc": 0.5, "scale": 0.6}}),
            "search/param_distributions/dropout_rate",
            "less than 1; the distribution ranges from 0.5 to 1.1",
        ),
        (
            draws({"num_neurons": {"distribution": "randint", "low": 1, "high": 4098}}),
            "search/param_distributions/num_neurons",
            "the distribution ranges from 1 to 4097",
        ),
        (
            draws({"l1": {"distribution": "uniform", "loc": 1e308, "scale": 1.7e308}}),
            "search/param_distributions/l1",
            "the distribution ranges from 1e+308 to inf",
        ),
        (grid({}, dataset={"name": "digits", "train_samples": 1438}), "dataset/train_samples", "1 to 1437, or null"),
        (grid({}, dataset={"name": "digits", "test_samples": 361}), "dataset/test_samples", "1 to 360, or null"),
        (
            grid({}, dataset={"name": "digits", "train_samples": 20}, evaluation={"cv": 3}),
            "dataset/train_samples",
            "cv=3 needs a class with at least 3 samples: use 21 or more train_samples",
        ),
        (
            grid({}, dataset={"name": "mnist", "train_samples": 70}, evaluation={"cv": 10}),
            "dataset/train_samples",
            "use 71 or more train_samples",
        ),
        (
            grid({}, dataset={"train_samples": 1}, evaluation={"validation_split": 0.5}),
            "evaluation/validation_split",
            "must leave at least one of the 1 training samples",
        ),
        (
            grid({}, dataset={"train_samples": 10}, evaluation={"validation_split": 0.95}),
            "evaluation/validation_split",
            "of the 10 training samples",
        ),
        (
            grid({}, dataset={"train_samples": 10}, evaluation={"validation_split": 1e-17}),
            "evaluation/validation_split",
            "of the 10 training samples",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_invalid_specs_are_rejected_with_path_and_message(spec: JobSpec, where: str, message: str) -> None:
    found = rejections(spec)
    assert message in found[where]


def test_at_most_ten_rejections_are_reported() -> None:
    with pytest.raises(SpecRejected) as caught:
        draw_candidates(grid({"num_neurons": [0] * 50}))
    assert len(caught.value.rejections) == 10
    with pytest.raises(SpecRejected) as caught:
        draw_candidates(grid({"momentum": [0.5] * 50}))
    assert len(caught.value.rejections) == 10


@pytest.mark.parametrize(
    "search",
    [
        {"strategy": "grid", "param_grid": {"num_neurons": []}},
        {"strategy": "grid", "param_grid": []},
        {"strategy": "grid", "param_grid": {"num_neurons": 8}},
        {"strategy": "grid", "param_grid": {"activation": "relu"}},
        {"strategy": "grid", "param_grid": {"l1": {"distribution": "uniform", "low": 0, "high": 1}}},
        {"strategy": "grid", "param_grid": {}, "n_iter": 3},
        {"strategy": "random", "param_distributions": {"l1": []}},
        {"strategy": "random", "param_distributions": {"activation": "relu"}},
        {"strategy": "random", "param_distributions": {"l1": {"distribution": "normal", "loc": 0, "scale": 1}}},
        {"strategy": "random", "param_distributions": {"l1": {"distribution": ["uniform"], "low": 0, "high": 1}}},
        {"strategy": "random", "param_distributions": {"l1": {"distribution": "uniform", "low": 0}}},
        {"strategy": "random", "param_distributions": {"l1": {"distribution": "uniform", "loc": 0, "high": 1}}},
        {"strategy": "random", "param_distributions": {"l1": {"distribution": "uniform", "loc": 0, "scale": 0}}},
        {"strategy": "random", "param_distributions": {"l1": {"distribution": "uniform", "low": 1, "high": 1}}},
        {"strategy": "random", "param_distributions": {"l1": {"distribution": "loguniform", "low": 0, "high": 1}}},
        {"strategy": "random", "param_distributions": {"l1": {"distribution": "loguniform", "loc": 0, "scale": 1}}},
        {"strategy": "random", "param_distributions": {"epochs": {"distribution": "randint", "low": 3, "high": 3}}},
        {"strategy": "random", "param_distributions": {"epochs": {"distribution": "randint", "low": 1.0, "high": 3}}},
        {"strategy": "random", "param_distributions": {}, "n_iter": 0},
        {"strategy": "random", "param_distributions": {}, "n_iter": 10_001},
        {"strategy": "random", "param_distributions": {}, "n_iter": True},
        {"strategy": "halving", "param_grid": {}},
    ],
    ids=json.dumps,
)
def test_malformed_searches_are_rejected_by_the_model(search: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        posted(search)


@pytest.mark.parametrize(
    ("name", "space"),
    [
        ("dropout_rate", {"distribution": "uniform", "loc": 0, "scale": 1}),
        ("dropout_rate", {"distribution": "uniform", "low": 0.0, "high": 1.0}),
        ("learning_rate", {"distribution": "uniform", "loc": 0, "scale": 10}),
        ("learning_rate", {"distribution": "loguniform", "low": 1e-300, "high": 10}),
        ("weight_decay", {"distribution": "uniform", "low": 0, "high": 1}),
        ("num_neurons", {"distribution": "randint", "low": 1, "high": 4097}),
        ("learning_rate", {"distribution": "randint", "low": 1, "high": 11}),
    ],
)
def test_a_distribution_may_end_at_a_bound(name: str, space: dict[str, Any]) -> None:
    assert len(draw_candidates(draws({name: space}, 200))) == 200


def test_momentum_zero_is_valid_with_every_optimizer() -> None:
    assert len(draw_candidates(grid({"momentum": [0, 0.0], "optimizer": ["adam", "sgd"]}))) == 4


def test_candidates_have_only_the_searched_hyperparameters() -> None:
    spec = grid({"num_neurons": [16]}, fixed={"epochs": 2})
    [one] = params(spec)
    assert one == {"num_neurons": 16}
    assert spec.hyperparameters(one) == {**Cnn().model_dump(), "num_neurons": 16, "epochs": 2}


def test_the_cost_counts_the_multiply_adds_of_all_layers_and_epochs() -> None:
    [small] = draw_candidates(grid({}, fixed={"epochs": 1, "filters": 4, "num_neurons": 16}))
    # Image 8x8x1, 3x3 convolution, pooled to 3x3x4, dense layer of 16, softmax of 10.
    assert small.multiply_adds == 1437 * (6 * 6 * 4 * 9 + 16 * (3 * 3 * 4 + 10))
    [twice] = draw_candidates(grid({}, fixed={"epochs": 2, "filters": 4, "num_neurons": 16}))
    assert twice.multiply_adds == 2 * small.multiply_adds


SPECS = [
    grid({}),
    grid(GRIDS[0], fixed={"epochs": 2, "l1": 0}, name="a-grid", labels={"team": "vision"}),
    grid(GRIDS[2], evaluation={"validation_split": 0.1, "refit": False}),
    draws(ARTICLE, 27, random_state=42, limits={"fit_timeout_seconds": 0.5, "max_failed_trials": 0}),
    draws(MIXED, 3, evaluation={"cv": 10}, dataset={"train_samples": 6000, "test_samples": None}),
    draws({"l1": {"distribution": "loguniform", "low": 5e-324, "high": 1}}, fixed={"learning_rate": 1}),
]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.search.strategy)
def test_a_serialized_spec_can_be_posted_again(spec: JobSpec) -> None:
    serialized = spec.model_dump_json()
    again = JobSpec.model_validate_json(serialized)
    assert again == spec
    assert again.model_dump_json() == serialized
    assert JobSpec.model_validate(json.loads(serialized)) == spec, "as read back from its column"
    assert draw_candidates(again) == draw_candidates(spec)


@pytest.mark.parametrize("cv", range(2, 11))
def test_smallest_for_is_the_fewest_samples_that_scikit_learn_splits(cv: int) -> None:
    from sklearn.datasets import load_digits

    labels = load_digits().target
    most = [max(np.bincount(labels[:samples])) for samples in range(1, 100)]
    assert DATASETS["digits"].smallest_for(cv) == 1 + next(i for i, members in enumerate(most) if members >= cv)


SPACES: dict[str, st.SearchStrategy[Any]] = {
    "learning_rate": st.lists(st.floats(0, 10, exclude_min=True), min_size=1, max_size=3)
    | st.tuples(st.floats(1e-9, 1), st.floats(1.01, 10)).map(
        lambda ends: {"distribution": "loguniform", "low": ends[0], "high": ends[1]}
    ),
    "dropout_rate": st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=3)
    | st.tuples(st.floats(0, 0.5), st.floats(0.001, 0.49)).map(
        lambda ends: {"distribution": "uniform", "loc": ends[0], "scale": ends[1]}
    ),
    "num_neurons": st.lists(st.integers(1, 4096), min_size=1, max_size=3)
    | st.tuples(st.integers(1, 2000), st.integers(2001, 4097)).map(
        lambda ends: {"distribution": "randint", "low": ends[0], "high": ends[1]}
    ),
    "activation": st.lists(st.sampled_from(["relu", "elu", "gelu", "tanh"]), min_size=1, max_size=3),
    "optimizer": st.lists(st.sampled_from(["adam", "adamw", "sgd"]), min_size=1, max_size=2),
    "kernel_size": st.lists(st.integers(1, 7), min_size=1, max_size=2),
}
SPACE = st.fixed_dictionaries({}, optional=SPACES)
LISTS = SPACE.map(lambda space: {name: values for name, values in space.items() if isinstance(values, list)})


def one_or_many(space: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return space | st.lists(space, min_size=1, max_size=3)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(
    spec=st.builds(draws, one_or_many(SPACE), st.integers(1, 30), random_state=st.integers(0, 2**32 - 1))
    | st.builds(grid, one_or_many(LISTS))
)
def test_every_valid_search_yields_the_counted_candidates_and_all_can_be_trained(spec: JobSpec) -> None:
    found = draw_candidates(spec)
    assert len(found) == count_trials(spec)
    assert JobSpec.model_validate_json(spec.model_dump_json()) == spec
    for candidate in found:
        complete = Cnn.model_validate(spec.hyperparameters(candidate.params))
        assert complete.layers(DATASETS["digits"].shape)
        assert math.isfinite(candidate.multiply_adds) and candidate.multiply_adds > 0
        assert json.loads(json.dumps(candidate.params)) == candidate.params
