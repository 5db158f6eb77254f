"""The points that Optuna's TPE proposes for a search."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from sklearn.model_selection import ParameterGrid, ParameterSampler

from app.tuning.search.models import Cnn, Value
from app.tuning.search.spaces import Spaces
from worker import proposals
from worker.proposals import Point, propose

GRID: dict[str, Any] = {
    "learning_rate": [0.05, 0.01, 0.1],
    "dropout_rate": [0.1, 0.2, 0.3],
    "activation": ["tanh", "relu", "elu"],
}
MIXED = TypeAdapter(Spaces).validate_python(
    {
        "learning_rate": {"distribution": "loguniform", "low": 0.0001, "high": 0.1},
        "dropout_rate": {"distribution": "uniform", "low": 0.0, "high": 1.0},
        "l2": {"distribution": "uniform", "loc": 0.5, "scale": 0.25},
        "num_neurons": {"distribution": "randint", "low": 5, "high": 8},
        "batch_size": [64, 16, 32],
        "optimizer": ["sgd", "adam"],
    }
)
CONDITIONAL = [{"optimizer": ["adam"], "filters": [4, 8]}, {"optimizer": ["sgd"], "momentum": [0.0, 0.9]}]


def score(point: Point) -> float:
    """A value that depends on every hyperparameter, and not on the process."""
    return sum((index + 1) * len(str(point[name])) for index, name in enumerate(sorted(point))) / 100


def search(spaces: list[Any], number: int, seed: int = 0, startup: int = 0) -> list[Point]:
    """The points of a search of so many trials, one by one; fewer if they are used up."""
    history = [(point, score(point)) for point in ParameterSampler(spaces, startup, random_state=seed)]
    while len(history) < number:
        point = propose(spaces, history, [], seed, len(history))
        if point is None:
            break
        history.append((point, score(point)))
    return [point for point, _ in history]


def keys(points: Any) -> set[tuple[tuple[str, Value], ...]]:
    return {tuple(sorted(point.items())) for point in points}


@pytest.mark.parametrize("redraws", [0, 20])
@pytest.mark.parametrize("seed", range(3))
def test_a_finite_space_is_used_up_without_a_point_twice(
    redraws: int, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proposals, "MAX_REDRAWS", redraws)
    points = search([GRID], 30, seed)
    assert len(points) == 27
    assert keys(points) == keys(ParameterGrid(GRID))


def test_all_alternatives_are_used_up() -> None:
    points = search(CONDITIONAL, 9)
    assert len(points) == 4
    assert keys(points) == keys(ParameterGrid(CONDITIONAL))


def test_a_point_of_two_alternatives_is_proposed_once() -> None:
    points = search([{"filters": [1, 2]}, {"filters": [2, 3]}], 9)
    assert sorted(str(point["filters"]) for point in points) == ["1", "2", "3"]


@pytest.mark.parametrize("startup", [0, 10])
def test_proposals_are_within_the_bounds_and_of_the_models_types(startup: int) -> None:
    found = search([MIXED], 30, startup=startup)[startup:]
    for point in found:
        Cnn.model_validate({**point, "momentum": 0})
        learning_rate, dropout_rate, l2 = (float(point[name]) for name in ("learning_rate", "dropout_rate", "l2"))
        assert 0.0001 < learning_rate < 0.1 and 0 < dropout_rate < 1 and 0.5 < l2 < 0.75
        assert point["num_neurons"] in (5, 6, 7) and isinstance(point["num_neurons"], int)
        assert point["batch_size"] in (16, 32, 64) and point["optimizer"] in ("adam", "sgd")
        assert list(point) == list(MIXED)
    assert len({point["num_neurons"] for point in found}) == 3


@settings(max_examples=30, deadline=None)
@given(st.floats(1e-9, 1), st.floats(1e-12, 1e-3), st.integers(0, 99))
def test_floats_have_twelve_digits_unless_they_are_next_to_a_bound(low: float, width: float, seed: int) -> None:
    high = low + low * width
    space = TypeAdapter(Spaces).validate_python({"l1": {"distribution": "loguniform", "low": low, "high": high}})
    point = propose([space], [], [], seed, 0)
    assert point is not None
    found = float(point["l1"])
    assert low < found < high
    assert found == float(f"{found:.12g}") or found in (math.nextafter(low, high), math.nextafter(high, low))


def test_the_running_trials_are_not_proposed_again() -> None:
    points = list(ParameterGrid(GRID))
    history = [(point, score(point)) for point in points[:10]]
    assert propose([GRID], history, points[10:26], 0, 26) == points[26]
    assert propose([GRID], history, points[10:], 0, 27) is None


def test_a_failed_trial_counts_as_the_worst() -> None:
    points = list(ParameterSampler(MIXED, 20, random_state=1))
    values = [score(point) for point in points[1:]]
    failed = [(points[0], None), *zip(points[1:], values, strict=True)]
    for number in range(5):
        worst = propose([MIXED], [(points[0], min(values)), *failed[1:]], [], 0, number)
        assert propose([MIXED], failed, [], 0, number) == worst


def test_trials_that_have_all_failed_give_a_proposal() -> None:
    points = list(ParameterGrid(GRID))[:26]
    assert propose([GRID], [(point, None) for point in points], [], 0, 26) == list(ParameterGrid(GRID))[26]


def test_proposals_are_near_the_best_values_of_a_list_in_any_order() -> None:
    numbers = [(37 * index) % 101 for index in range(101)]
    told = [({"filters": number}, -float(abs(number - 70))) for number in numbers[::3]]
    found = [propose([{"filters": numbers}], told, [], 0, number) for number in range(20)]
    distances = [abs(int(point["filters"]) - 70) for point in found if point]
    assert sum(distances) / len(distances) < 15  # of a random one: 30


def test_only_allowed_points_are_proposed(monkeypatch: pytest.MonkeyPatch) -> None:
    points = list(ParameterGrid(GRID))
    for last in points[::5]:
        assert propose([GRID], [], [], 0, 0, lambda point, last=last: point == last) == last  # type: ignore[misc]
    assert propose([GRID], [], [], 0, 0, lambda point: False) is None
    monkeypatch.setattr(proposals, "MAX_REDRAWS", 0)
    monkeypatch.setattr(proposals, "MAX_RANDOM_DRAWS", 100)
    point = propose([MIXED], [], [], 0, 0, lambda point: point["optimizer"] == "adam" and point["batch_size"] == 64)
    assert point is not None and (point["optimizer"], point["batch_size"]) == ("adam", 64)
    assert propose([MIXED], [], [], 0, 0, lambda point: False) is None


def test_a_given_point_counts_where_its_complete_hyperparameters_are() -> None:
    given = Cnn(learning_rate=0.05, dropout_rate=0.2, activation="elu").model_dump()
    others = [point for point in ParameterGrid(GRID) if not point.items() <= given.items()]
    assert len(others) == 26
    history = [(given, 0.5), *((point, score(point)) for point in others)]
    assert propose([GRID], history, [], 0, 27) is None


def test_a_point_outside_the_space_is_not_used() -> None:
    points = [(point, score(point)) for point in list(ParameterGrid(GRID))[:5]]
    outside: list[tuple[Point, float]] = [
        ({"learning_rate": 0.02, "dropout_rate": 0.1, "activation": "elu"}, 0.9),
        ({"learning_rate": 0.05, "dropout_rate": 0.1}, 0.9),
        ({"learning_rate": 0.05, "dropout_rate": 0.1, "activation": "gelu"}, 0.9),
    ]
    assert propose([GRID], [*outside, *points], [], 0, 8) == propose([GRID], points, [], 0, 8)


def test_a_draw_that_misses_a_bound_by_a_rounding_error_counts() -> None:
    name, points = "learning_rate", list(ParameterSampler(MIXED, 10, random_state=0))
    told = [({**point, name: 0.0001 if index else 0.1}, score(point)) for index, point in enumerate(points)]
    missed = [
        ({**point, name: math.nextafter(0.0001, 0) if index else math.nextafter(0.1, 1)}, value)
        for index, (point, value) in enumerate(told)
    ]
    assert propose([MIXED], missed, [], 0, 10) == propose([MIXED], told, [], 0, 10)


def test_another_seed_or_number_gives_another_point() -> None:
    history = [(point, score(point)) for point in ParameterSampler(MIXED, 10, random_state=0)]
    found = [propose([MIXED], history, [], seed, number) for seed in range(3) for number in range(10, 13)]
    assert len({json.dumps(point) for point in found}) == 9


SCRIPT = """
import json
from tests.worker.test_proposals import CONDITIONAL, GRID, MIXED, search
print(json.dumps([search([GRID], 15), search([MIXED], 15, startup=5), search(CONDITIONAL, 4)]))
"""


@pytest.mark.system
def test_every_process_proposes_the_same_points() -> None:
    printed = [
        subprocess.run(
            [sys.executable, "-c", SCRIPT],
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    here = [search([GRID], 15), search([MIXED], 15, startup=5), search(CONDITIONAL, 4)]
    assert printed[0] == printed[1]
    assert json.loads(printed[0]) == here
