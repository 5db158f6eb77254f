"""Invalid input never causes a 5xx: problem documents point into the posted body and say what is expected."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.rejecting import VALID, pointed, problem

NUL = [
    ({"name": "a\0"}, "/name"),
    ({"labels": {"a": "\0"}}, "/labels/a"),
    ({"labels": {"a\0": "b"}}, "/labels/a\0"),
    ({"\0": 1}, "/\0"),
    ({"model": "cnn\0"}, "/model"),
    ({"dataset": {"name": "mnist\0"}}, "/dataset/name"),
    ({"fixed": {"optimizer": "adam\0"}}, "/fixed/optimizer"),
    ({"fixed": {"epochs\0": 1}}, "/fixed/epochs\0"),
    ({"search": {"strategy": "grid", "param_grid": {"optimizer": ["\0"]}}}, "/search/param_grid/optimizer/0"),
]


@pytest.mark.parametrize(("changes", "pointer"), NUL)
def test_nul_is_rejected_everywhere(client: TestClient, changes: dict[str, Any], pointer: str) -> None:
    body = {"search": {"strategy": "grid", "param_grid": {}}} | changes
    assert list(pointed(client, body)) == [pointer]


WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"search": {}}, "/search/strategy", "'grid', 'random', 'halving_grid', 'halving_random', 'hyperband' or 'tpe'"),
    (
        {"search": {"strategy": "both"}},
        "/search/strategy",
        "'grid', 'random', 'halving_grid', 'halving_random', 'hyperband' or 'tpe'",
    ),
    ({"search": {"strategy": "grid"}}, "/search/param_grid", "Field required"),
    ({"search": {"strategy": "grid", "param_grid": []}}, "/search/param_grid", "at least 1 item"),
    ({"search": {"strategy": "grid", "param_grid": 5}}, "/search/param_grid", "object"),
    ({"search": {"strategy": "grid", "param_grid": {"l1": []}}}, "/search/param_grid/l1", "at least 1 item"),
    ({"search": {"strategy": "grid", "param_grid": {"l1": "ab"}}}, "/search/param_grid/l1", "list"),
    ({"search": {"strategy": "grid", "param_grid": [{"l1": [0]}, {"l3": [0]}]}}, "/search/param_grid/1/l3/0", "l1, l2"),
    ({"search": {"strategy": "grid", "param_grid": {"epochs": [1, "5"]}}}, "/search/param_grid/epochs/1", "integer"),
    ({"search": {"strategy": "grid", "param_grid": {"epochs": [True]}}}, "/search/param_grid/epochs/0", "integer"),
    ({"search": {"strategy": "grid", "param_grid": {"epochs": [1.0]}}}, "/search/param_grid/epochs/0", "integer"),
    ({"search": {"strategy": "grid", "param_grid": {"epochs": [0]}}}, "/search/param_grid/epochs/0", "1"),
    (
        {"search": {"strategy": "grid", "param_grid": {"one": [1], "l1": 5}, "grid": {}}},
        "/search/param_grid/l1",
        "list",
    ),
    ({"search": {"strategy": "grid", "param_grid": {}, "n_iter": 5}}, "/search/n_iter", "strategy, param_grid"),
    (
        {
            "search": {
                "strategy": "random",
                "param_distributions": {"l1": {"distribution": "uniform", "low": 1, "high": 0}},
            }
        },
        "/search/param_distributions/l1",
        "less than high",
    ),
    (
        {"search": {"strategy": "random", "param_distributions": {"list": {"distribution": "normal"}}}},
        "/search/param_distributions/list",
        "loguniform",
    ),
    (
        {
            "search": {
                "strategy": "random",
                "param_distributions": {"l1": {"distribution": "uniform", "loc": 0, "scale": 0}},
            }
        },
        "/search/param_distributions/l1/scale",
        "greater than 0",
    ),
    (
        {
            "search": {
                "strategy": "random",
                "param_distributions": [{"l1": {"distribution": "uniform", "low": 0, "hi": 1}}],
            }
        },
        "/search/param_distributions/0/l1/hi",
        "low, high",
    ),
    ({"fixed": {"epochs": "5"}}, "/fixed/epochs", "integer"),
    ({"fixed": {"learning_rate": 0.1}}, "/search/param_grid/learning_rate", "once"),
    ({"fixed": {"depth": 1}}, "/fixed/depth", "conv_blocks"),
    ({"fixed": {"momentum": 0.5}}, "/search", "sgd or rmsprop"),
    ({"fixed": {"conv_blocks": 3, "kernel_size": 7}}, "/search", "fewer blocks"),
    ({"evaluation": {"cv": 1}}, "/evaluation/cv", "2"),
    ({"evaluation": {"cv": 11}}, "/evaluation/cv", "10"),
    ({"evaluation": {"cv": True}}, "/evaluation/cv", "integer"),
    ({"evaluation": {"cv": "3"}}, "/evaluation/cv", "integer"),
    ({"evaluation": {"cv": 3, "validation_split": 0.1}}, "/evaluation/cv", "refit, keep_model, validation_split"),
    ({"evaluation": {"validation_split": 1}}, "/evaluation/validation_split", "less than 1"),
    ({"evaluation": {"refit": 1}}, "/evaluation/refit", "boolean"),
    ({"evaluation": 3}, "/evaluation", "cv"),
    ({"random_state": 1.0}, "/random_state", "integer"),
    ({"random_state": -1}, "/random_state", "0"),
    ({"random_state": 2**32}, "/random_state", "4294967295"),
    ({"dataset": {"name": "cifar"}}, "/dataset/name", "'mnist', 'digits'"),
    ({"dataset": "mnist"}, "/dataset", "object"),
    ({"dataset": {"train_samples": 60_001}}, "/dataset/train_samples", "60000"),
    ({"dataset": {"name": "digits", "train_samples": 1_438}}, "/dataset/train_samples", "1437"),
    ({"dataset": {"train_samples": 2}}, "/dataset/train_samples", "or more train_samples"),
    ({"model": "mixer"}, "/model", "'cnn'"),
    ({"limits": {"fit_timeout_seconds": 0}}, "/limits/fit_timeout_seconds", "greater than 0"),
    ({"limits": {"most": 1}}, "/limits/most", "max_parallel_fits, fit_timeout_seconds, reuse, max_failed_trials"),
    ({"name": "-a"}, "/name", "pattern"),
    ({"name": "a" * 65}, "/name", "64"),
    ({"name": "a\n"}, "/name", "pattern"),
    ({"name": ""}, "/name", "pattern"),
    ({"labels": {"a b": "c"}}, "/labels/a b", "pattern"),
    ({"labels": {"a": "ü"}}, "/labels/a", "pattern"),
    ({"labels": {"a": 1}}, "/labels/a", "string"),
    ({"labels": {str(number): "a" for number in range(17)}}, "/labels", "16"),
    ({"a/b~c": 1}, "/a~1b~0c", "random_state"),
]


@pytest.mark.parametrize(("changes", "pointer", "hint"), WRONG)
def test_an_error_points_at_the_invalid_part_and_says_what_is_expected(
    sqlite_client: TestClient, changes: dict[str, Any], pointer: str, hint: str
) -> None:
    errors = pointed(sqlite_client, {"search": {"strategy": "grid", "param_grid": {"learning_rate": [0.1]}}} | changes)
    assert pointer in errors
    assert hint in errors[pointer]


def test_a_huge_grid_is_rejected_without_being_expanded(sqlite_client: TestClient) -> None:
    rates = [number / 1000 for number in range(1, 1001)]
    names = ("learning_rate", "dropout_rate", "momentum", "l1")
    grids: list[Any] = [{name: rates[:-1] for name in names}, [{}] * 10_001, {"l1": rates, "l2": rates[:11]}]
    for grid in grids:
        errors = pointed(sqlite_client, {"search": {"strategy": "grid", "param_grid": grid}})
        assert "10,000" in errors["/search"]


HUGE = [
    "9" * 5000,
    "-" + "9" * 5000,
    str(2**31),
    str(2**63),
    str(2**64),
    "-1",
    "1.0",
    "+1",
    "1e3",
    "NaN",
    "0x1",
    "%00",
    "%20",
    "%FF",
]


@pytest.mark.parametrize("number", [*HUGE, "٣", "null", "..%2f..", "%0d%0aX:1"])
def test_invalid_trial_numbers_are_rejected(client: TestClient, number: str) -> None:
    job_id = client.post("/v1/jobs", json=VALID[0]).json()["id"]
    response = client.get(f"/v1/jobs/{job_id}/trials/{number}")
    problem(response, 404 if "%2f" in number else 422)


@pytest.mark.parametrize(
    "job_id", ["1", "%00", "%FF", "a" * 60_000, "-1", "' OR 1=1", "7d1c9b6e-6f0a-4c39-9d0e-0d6c3a1f2b1%00"]
)
def test_invalid_job_ids_are_rejected(client: TestClient, job_id: str) -> None:
    for more in ("", "/best", "/trials", "/trials/0", "/results"):
        problem(client.get(f"/v1/jobs/{job_id}{more}"), 422)
    problem(client.delete(f"/v1/jobs/{job_id}"), 422)
    problem(client.post(f"/v1/jobs/{job_id}/cancel"), 422)


@pytest.mark.parametrize("value", ["%00", "%FF%FE", "x" * 60_000, "running%00", "RUNNING", "", "%ED%A0%80"])
def test_invalid_query_values_are_rejected(client: TestClient, value: str) -> None:
    job_id = client.post("/v1/jobs", json=VALID[0]).json()["id"]
    for path in ("/v1/jobs?state=", f"/v1/jobs/{job_id}/trials?state=", f"/v1/jobs/{job_id}/trials?sort="):
        errors = problem(client.get(path + value), 422)["errors"]
        assert errors[0]["pointer"] == "/" + path.split("?")[1].rstrip("=")
    problem(client.get(f"/v1/jobs/{job_id}/results?format={value}"), 422)
    problem(client.get(f"/v1/jobs?{value or 'unknown'}=1"), 422)


def test_duplicate_query_parameters_are_rejected(client: TestClient) -> None:
    errors = problem(client.get("/v1/jobs?state=running&state=running"), 422)["errors"]
    assert [error["pointer"] for error in errors] == ["/state"]


# A mutated valid job is accepted or rejected, and never causes a 5xx.

NUMBERS = [0, -1, 1, 1.0, 0.5, 2**31, 2**63, -(2**63) - 1, 10**300, 1e308, 5e-324]
TEXTS = ["", "5", "\0", "x" * 300, "grid", "random", "adam", "uniform", "ü", "\U0001f600"]
ODD: st.SearchStrategy[Any] = st.sampled_from(
    [*NUMBERS, *TEXTS, None, True, False, [], {}, [[]], [{}], [None], {"": 1}, {"~/": {"0": []}}]
)
ANY = st.recursive(
    ODD, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)
NAMES = st.sampled_from(
    ["name", "search", "grid", "one", "list", "epochs", "low", "a/b", "~", "", "0", "[key]", "Uniform"]
)


def places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    yield path
    for step in range(len(value)) if isinstance(value, list) else value if isinstance(value, dict) else ():
        yield from places(value[step], (*path, step))


@st.composite
def mutants(draw: st.DrawFn) -> Any:
    """A valid job with a few values replaced, removed, added or wrapped."""
    body: Any = copy.deepcopy(draw(st.sampled_from(VALID)))
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(list(places(body))))
        if not path:
            continue
        holder, last = body, path[-1]
        for step in path[:-1]:
            holder = holder[step]
        match draw(st.sampled_from(["replace", "remove", "add", "wrap"])):
            case "replace":
                holder[last] = copy.deepcopy(draw(ANY))
            case "remove":
                del holder[last]
            case "wrap":
                holder[last] = draw(st.sampled_from([[holder[last]], {"one": holder[last]}]))
            case "add" if isinstance(holder, dict):
                holder[draw(NAMES)] = copy.deepcopy(draw(ANY))
            case "add":
                holder.append(copy.deepcopy(draw(ANY)))
    return body


@pytest.mark.slow
@settings(max_examples=400, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(body=mutants())
def test_a_mutated_job_is_accepted_or_rejected(sqlite_client: TestClient, body: Any) -> None:
    response = sqlite_client.post("/v1/jobs", json=body)
    if response.status_code != 202:
        problem(response, 422)
        pointed(sqlite_client, body)
