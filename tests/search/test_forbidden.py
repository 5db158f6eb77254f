"""Forbidden points: conditions on complete hyperparameters, left out of grids and drawn again by the same stream."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import ParameterGrid, ParameterSampler

from app.tuning.search.candidates import draw_candidates
from app.tuning.search.forbidden import OPERATORS, compile_forbidden, is_forbidden
from tests.search.test_candidates import params, posted, rejections

MOMENTUM = {"optimizer": ["adam", "sgd"], "momentum": [0, 0.9]}
UNIT = {"distribution": "uniform", "low": 0.0, "high": 1.0}
KNOWN = (
    "activation, batch_size, class_weight, conv_blocks, dropout_rate, epochs, filters, kernel_size, l1, l2, "
    "learning_rate, momentum, num_neurons, optimizer, weight_decay"
)


def grid(space: Any, *forbidden: Any, **changes: Any) -> Any:
    points = changes.pop("points_to_evaluate", [])
    search = {"strategy": "grid", "param_grid": space, "forbidden": forbidden, "points_to_evaluate": points}
    return posted(search, **changes)


def draws(space: Any, n_iter: int, *forbidden: Any, **changes: Any) -> Any:
    search = {"strategy": "random", "param_distributions": space, "n_iter": n_iter, "forbidden": forbidden}
    return posted(search, **changes)


def test_a_grids_forbidden_points_are_left_out() -> None:
    """Also where the model would reject them."""
    found = draw_candidates(grid(MOMENTUM, {"optimizer": "adam", "momentum": {"gt": 0}}))
    assert [one.params for one in found] == [
        {"momentum": 0, "optimizer": "adam"},
        {"momentum": 0, "optimizer": "sgd"},
        {"momentum": 0.9, "optimizer": "sgd"},
    ]
    assert found.skipped == 1


@pytest.mark.parametrize(
    ("condition", "left"),
    [
        (8, [4, 16, 32]),
        ({"eq": 8}, [4, 16, 32]),
        ({"ne": 8}, [8]),
        ({"lt": 8}, [8, 16, 32]),
        ({"le": 8}, [16, 32]),
        ({"gt": 8}, [4, 8]),
        ({"ge": 8}, [4]),
        ({"in": [4, 32]}, [8, 16]),
        ({"ge": 8, "lt": 32}, [4, 32]),
        ({"lt": 15.5}, [16, 32]),
        ({"lt": {"param": "filters"}}, [32]),
        ({"eq": {"param": "batch_size"}}, [4, 8, 32]),
    ],
)
def test_operators_compare_with_values_and_other_hyperparameters(condition: Any, left: list[int]) -> None:
    """`filters` has its default, 32; `batch_size` is fixed."""
    spec = grid({"num_neurons": [4, 8, 16, 32]}, {"num_neurons": condition}, fixed={"batch_size": 16})
    assert [one["num_neurons"] for one in params(spec)] == left


def test_each_conjunction_forbids_alone() -> None:
    spec = grid(MOMENTUM, {"optimizer": {"in": ["adam"]}, "momentum": 0.9}, {"optimizer": "sgd", "momentum": 0})
    assert params(spec) == [{"momentum": 0, "optimizer": "adam"}, {"momentum": 0.9, "optimizer": "sgd"}]


def test_draws_are_the_first_allowed_ones_of_the_stream() -> None:
    space = {"learning_rate": UNIT, "dropout_rate": UNIT, "optimizer": ["adam", "sgd"]}
    spec = draws(space, 20, {"dropout_rate": {"lt": {"param": "learning_rate"}}}, {"optimizer": "adam"}, random_state=5)
    stream = params(draws(space, 400, random_state=5))
    allowed = [one for one in stream if one["dropout_rate"] >= one["learning_rate"] and one["optimizer"] == "sgd"]
    found = draw_candidates(spec)
    assert [one.params for one in found] == allowed[:20]
    assert found.skipped == stream.index(allowed[19]) - 19


@given(n_iter=st.integers(1, 30), seed=st.integers(0, 2**32 - 1), kept=st.sets(st.integers(1, 40), min_size=1))
@settings(max_examples=40, deadline=None)
def test_draws_from_lists_start_with_scikit_learns(n_iter: int, seed: int, kept: set[int]) -> None:
    """No point comes twice, and all come that are allowed, if there are too few."""
    space = {"num_neurons": list(range(1, 41))}
    left_out = [{"num_neurons": value} for value in range(1, 41) if value not in kept]
    found = draw_candidates(draws(space, n_iter, *left_out, random_state=seed))
    drawn = [int(one.params["num_neurons"]) for one in found]
    assert len(drawn) == len(set(drawn)) == min(n_iter, len(kept))
    assert set(drawn) <= kept
    theirs = [one["num_neurons"] for one in ParameterSampler(space, n_iter, random_state=seed)]
    first = [value for value in theirs if value in kept]
    assert drawn[: len(first)] == first
    assert found.skipped >= len(theirs) - len(first)


def test_lists_of_very_many_points_can_have_forbidden_ones() -> None:
    names = ["num_neurons", "batch_size", "filters", "epochs"]
    space: dict[str, list[Any]] = {name: list(range(1, 251)) for name in names}
    space |= {name: [index / 1000 for index in range(1, 501)] for name in ("learning_rate", "l1", "l2")}
    found = draw_candidates(draws(space, 50, {"filters": {"gt": 50}}))
    assert len(found) == 50
    assert all(one.params["filters"] <= 50 for one in found)  # type: ignore[operator]
    assert found.skipped > 50


def test_a_condition_that_never_holds_changes_nothing() -> None:
    space = {"learning_rate": UNIT}
    found = draw_candidates(draws(space, 10, {"optimizer": {"ne": "adam"}}))
    assert (list(found), found.skipped) == (list(draw_candidates(draws(space, 10))), 0)


@given(bound=st.integers(1, 9), sign=st.sampled_from(sorted(set(OPERATORS) - {"in"})))
def test_conditions_hold_as_in_python(bound: int, sign: str) -> None:
    spec = grid({"filters": [1]}, {"filters": {sign: bound}})
    for point in ParameterGrid({"filters": list(range(1, 10))}):
        assert is_forbidden(compile_forbidden(spec), point) == OPERATORS[sign](point["filters"], bound)


@pytest.mark.parametrize(
    ("forbidden", "where", "message"),
    [
        ({}, "0", "Input should have at least one hyperparameter: an empty conjunction would forbid everything"),
        ({"dropout": 1}, "0/dropout", f"Unknown hyperparameter of cnn; expected one of {KNOWN}"),
        ({"filters": {}}, "0/filters", "Input should be a value or have at least one operator of eq, ne, lt, le, gt, "
         "ge, in"),
        ({"filters": {"gte": 1}}, "0/filters/gte", "Unknown operator; expected one of eq, ne, lt, le, gt, ge, in"),
        ({"filters": "many"}, "0/filters", "Input should be a valid integer"),
        ({"filters": {"eq": 8.5}}, "0/filters/eq", "Input should be a valid integer"),
        ({"filters": {"ne": 257}}, "0/filters/ne", "Input should be less than or equal to 256"),
        ({"filters": None}, "0/filters", "Input should be a valid integer"),
        ({"filters": [8]}, "0/filters", "Input should be a valid integer"),
        ({"filters": {"lt": "8"}}, "0/filters/lt", 'Input should be a number, or {"param": another hyperparameter}'),
        ({"filters": {"lt": True}}, "0/filters/lt", 'Input should be a number, or {"param": another hyperparameter}'),
        ({"filters": {"lt": 10**400}}, "0/filters/lt", 'Input should be a number, or {"param": another '
         "hyperparameter}"),
        ({"filters": {"in": 8}}, "0/filters/in", "Input should be a list of at least one value"),
        ({"filters": {"in": []}}, "0/filters/in", "Input should be a list of at least one value"),
        ({"filters": {"in": [8, "9"]}}, "0/filters/in/1", "Input should be a valid integer"),
        ({"optimizer": {"lt": "sgd"}}, "0/optimizer/lt", "optimizer is a string, which has no order: use eq, ne or in"),
        ({"activation": "elo"}, "0/activation", "Input should be 'relu', 'elu', 'gelu' or 'tanh'"),
        ({"filters": {"lt": {"param": "units"}}}, "0/filters/lt/param", f"Unknown hyperparameter of cnn; expected one "
         f"of {KNOWN}"),
        ({"filters": {"eq": {"param": "optimizer"}}}, "0/filters/eq/param", "filters is a number, optimizer is not: "
         "compare hyperparameters of the same type"),
        ({"filters": {"eq": {"of": "l1"}}}, "0/filters/eq", 'Input should be a value or {"param": another '
         "hyperparameter}"),
        ({"filters": {"eq": {"param": 1}}}, "0/filters/eq", 'Input should be a value or {"param": another '
         "hyperparameter}"),
    ],
)  # fmt: skip
def test_what_is_no_condition_is_rejected(forbidden: Any, where: str, message: str) -> None:
    assert rejections(grid({"num_neurons": [8]}, forbidden)) == {f"search/forbidden/{where}": message}


def test_the_resource_cannot_be_forbidden() -> None:
    search = {"strategy": "halving_grid", "param_grid": MOMENTUM, "forbidden": [{"epochs": {"lt": 2}}]}
    message = "epochs is the resource, which grows from rung to rung: leave it out"
    assert rejections(posted(search)) == {"search/forbidden/0/epochs": message}


def test_a_given_point_cannot_be_forbidden() -> None:
    spec = grid({"filters": [4]}, {"filters": 8}, points_to_evaluate=[{"filters": 16}, {"filters": 8}])
    message = "`forbidden` forbids this point: leave out one of them"
    assert rejections(spec) == {"search/points_to_evaluate/1": message}


def test_a_search_without_an_allowed_point_is_rejected() -> None:
    needs = "where the search needs 4: forbid less, or search more values"
    everything = {"momentum": {"ge": 0}}
    assert rejections(grid(MOMENTUM, everything)) == {
        "search/forbidden": f"leaves nothing of the 4 points seen, {needs}"
    }
    assert rejections(draws({"l1": UNIT}, 4, {"l1": {"ge": 0}})) == {
        "search/forbidden": f"leaves nothing of the 10,001 points seen, {needs}"
    }


def test_a_search_whose_points_are_nearly_all_forbidden_is_rejected() -> None:
    [message] = rejections(draws({"l1": UNIT}, 200, {"l1": {"gt": 0.001}})).values()
    assert message.startswith("leaves only ") and message.endswith(
        "where the search needs 200: forbid less, or search more values"
    )


@pytest.mark.parametrize("strategy", ["halving_grid", "halving_random", "hyperband"])
def test_every_strategy_can_forbid(strategy: str) -> None:
    space = "param_grid" if strategy == "halving_grid" else "param_distributions"
    search = {"strategy": strategy, space: {"filters": list(range(1, 55))}, "forbidden": [{"filters": {"gt": 27}}]}
    found = draw_candidates(posted(search))
    assert all(one.params["filters"] <= 27 for one in found)  # type: ignore[operator]
    assert found.skipped > 0


def test_hyperband_needs_as_many_points_as_its_brackets_start_with() -> None:
    search = {"strategy": "hyperband", "param_distributions": {"filters": list(range(1, 18))}, "max_resources": 9}
    assert len(draw_candidates(posted(search))) == 17
    left = "leaves only 16 of the 17 points seen, where the search needs 17: forbid less, or search more values"
    assert rejections(posted({**search, "forbidden": [{"filters": 1}]})) == {"search/forbidden": left}
    search["param_distributions"] = {"filters": [1, 2]}
    assert rejections(posted(search)) == {
        "search/param_distributions": "the lists have 2 combinations, but the brackets need 17 candidates: search more "
        "values, or use a larger min_resources or fewer brackets"
    }
