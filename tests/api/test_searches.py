"""Searches with races and rungs through the API: what is shown, and what is rejected with what would be right."""

from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from tests.support.driving import drive, post

GRID: dict[str, Any] = {"strategy": "halving_grid", "param_grid": {"num_neurons": [8, 16, 24, 32, 40, 48]}}
RANDOM: dict[str, Any] = {"strategy": "halving_random", "param_distributions": {"l2": [0, 0.1, 0.2]}}
HYPERBAND: dict[str, Any] = {
    "strategy": "hyperband",
    "param_distributions": {"l2": {"distribution": "uniform", "low": 0, "high": 1}},
}
TPE: dict[str, Any] = {**HYPERBAND, "strategy": "tpe"}
MISSING = "7d1c9b6e-6f0a-4c39-9d0e-0d6c3a1f2b11"
WRONG: list[tuple[dict[str, Any], dict[str, Any], str, str]] = [
    ({**GRID, "param_grid": {"epochs": [1, 2]}}, {}, "/search/param_grid/epochs", "is the resource"),
    ({**GRID, "points_to_evaluate": [{"epochs": 1}]}, {}, "/search/points_to_evaluate/0/epochs", "is the resource"),
    ({**GRID, "min_resources": 9, "max_resources": 3}, {}, "/search/min_resources", "more than max_resources"),
    ({**GRID, "factor": 1}, {}, "/search/factor", "greater than 1"),
    ({**GRID, "factor": 1.000001}, {}, "/search/factor", "use a larger factor"),
    ({**GRID, "factor": 0.5}, {}, "/search/factor", "greater than 1"),
    ({**GRID, "max_resources": 2000}, {}, "/search/max_resources", "at most 1000"),
    ({**GRID, "max_resources": 9}, {"fixed": {"epochs": 5}}, "/search/max_resources", "`fixed` has 5"),
    ({**GRID, "resource": "steps"}, {}, "/search/resource", "'epochs', 'n_samples' or 'folds'"),
    ({**GRID, "resource": "n_samples", "max_resources": 1438}, {}, "/search/max_resources", "1437 training samples"),
    ({**GRID, "resource": "n_samples", "min_resources": 5}, {}, "/search/min_resources", "at least 6 samples"),
    ({**GRID, "resource": "folds", "max_resources": 4}, {}, "/search/max_resources", "the job has 3"),
    (
        {**GRID, "resource": "folds", "factor": 1.5, "min_resources": 1},
        {"evaluation": {"cv": 5}},
        "/search/factor",
        "the same folds",
    ),
    (
        {**GRID, "resource": "folds"},
        {"evaluation": {"validation_split": 0.5}},
        "/search/resource",
        "need cross-validation",
    ),
    ({**GRID, "rung_levels": [1, 3, 3]}, {}, "/search/rung_levels", "greater than the one before"),
    ({**GRID, "rung_levels": []}, {}, "/search/rung_levels", "at least 1 item"),
    ({**RANDOM, "min_resources": "exhaust"}, {}, "/search/n_candidates", "cannot both be 'exhaust'"),
    ({**RANDOM, "rung_levels": [1, 3]}, {}, "/search/n_candidates", "give a number"),
    ({**HYPERBAND, "brackets": 0}, {}, "/search/brackets", "greater than or equal to 1"),
    ({**HYPERBAND, "min_resources": 100}, {}, "/search/min_resources", "more than max_resources"),
    ({**HYPERBAND, "n_iter": 3}, {}, "/search/n_iter", "Unknown field"),
    ({**GRID, "points_to_evaluate": [{"num_heads": 2}]}, {}, "/search/points_to_evaluate/0/num_heads", "Unknown"),
    (
        GRID,
        {"evaluation": {"cv": 3, "race": {"method": "fast"}}},
        "/evaluation/race/method",
        "'lossless' or 'bootstrap'",
    ),
    (GRID, {"evaluation": {"cv": 3, "race": {"burn_in": 1}}}, "/evaluation/race/method", "Field required"),
    (GRID, {"evaluation": {"cv": 3, "race": {"method": "bootstrap", "alpha": 0.5}}}, "/evaluation/race/alpha", "0.5"),
    (
        GRID,
        {"evaluation": {"cv": 3, "race": {"method": "lossless", "alpha": 0.1}}},
        "/evaluation/race/alpha",
        "burn_in",
    ),
    (GRID, {"evaluation": {"cv": 3, "race": {"method": "lossless", "burn_in": 0}}}, "/evaluation/race/burn_in", "1"),
    (GRID, {"evaluation": {"cv": 3, "race": {"method": "lossless", "burn_in": 3}}}, "/evaluation/race/burn_in", "2"),
    (
        {**GRID, "resource": "folds"},
        {"evaluation": {"cv": 3, "race": {"method": "lossless"}}},
        "/evaluation/race",
        "folds are what grows",
    ),
    (
        {"strategy": "grid", "param_grid": {"l2": [0]}},
        {"evaluation": {"cv": 3, "race": {"method": "lossless"}, "select": "one_standard_error"}},
        "/evaluation/select",
        "drops trials",
    ),
    (GRID, {"evaluation": {"cv": 3, "repeats": 11}}, "/evaluation/repeats", "less than or equal to 10"),
    ({**HYPERBAND, "sampler": "gp"}, {}, "/search/sampler", "'random' or 'tpe'"),
    (TPE, {"evaluation": {"cv": 3, "race": {"method": "lossless"}}}, "/evaluation/race", "learns from all folds"),
    (
        {**HYPERBAND, "sampler": "tpe", "max_resources": 3, "points_to_evaluate": [{"l2": 0.5}] * 5},
        {},
        "/search/points_to_evaluate",
        "room for 4",
    ),
    (HYPERBAND, {"warm_start": {"jobs": [MISSING]}}, "/warm_start", "the sampler 'tpe'"),
    (TPE, {"warm_start": {"jobs": [MISSING]}}, "/warm_start/jobs/0", f"No such job: {MISSING}"),
    (TPE, {"warm_start": {"jobs": []}}, "/warm_start/jobs", "at least 1 item"),
    (GRID, {"limits": {"max_epochs_trained": 98}}, "/limits/max_epochs_trained", "trains 99 epochs"),
    (TPE, {"limits": {"max_epochs_trained": 39}}, "/limits/max_epochs_trained", "one trial trains 40 epochs"),
    (TPE, {"limits": {"max_epochs_trained": 0}}, "/limits/max_epochs_trained", "greater than or equal to 1"),
]


@pytest.mark.parametrize(("search", "changes", "pointer", "hint"), WRONG)
def test_what_makes_no_plan_is_rejected_with_what_would_be_right(
    search: dict[str, Any], changes: dict[str, Any], pointer: str, hint: str, sqlite_client: TestClient
) -> None:
    body = {"dataset": {"name": "digits"}, "search": search, **changes}
    response = sqlite_client.post("/v1/jobs", json=body)
    assert response.status_code == 422, response.text
    errors = {error["pointer"]: error["message"] for error in response.json()["errors"]}
    assert pointer in errors, errors
    assert hint in errors[pointer]
    assert sqlite_client.post("/v1/preview", json=body).json() == response.json()


@pytest.mark.parametrize(
    ("changes", "hint"),
    [
        ({"dataset": {"name": "digits", "train_samples": 100}}, "same dataset, model and evaluation"),
        ({"evaluation": {"cv": 4}}, "same dataset, model and evaluation"),
        ({"evaluation": {"cv": 3, "scoring": "f1_macro"}}, "same dataset, model and evaluation"),
        ({"evaluation": {"validation_split": 0.5}}, "same dataset, model and evaluation"),
        ({}, "The job is queued: only ended jobs"),
    ],
)
def test_a_search_learns_only_from_ended_jobs_of_the_same_task(
    changes: dict[str, Any], hint: str, client: TestClient, engine: Engine
) -> None:
    job_id = post(client, {"dataset": {"name": "digits"}, "search": {**TPE, "n_iter": 2}})["id"]
    if changes:
        drive(engine, job_id, lambda _: 0.5)
    body = {"dataset": {"name": "digits"}, "search": TPE, "warm_start": {"jobs": [job_id]}, **changes}
    response = client.post("/v1/jobs", json=body)
    assert [error["pointer"] for error in response.json()["errors"]] == ["/warm_start/jobs/0"]
    assert hint in response.json()["errors"][0]["message"]


def test_a_random_search_has_as_many_trials_as_its_epochs_allow(client: TestClient) -> None:
    drawn = {"strategy": "random", "param_distributions": {"epochs": [1, 2, 3], "l2": [0, 0.1, 0.2]}, "n_iter": 9}
    body = {"dataset": {"name": "digits"}, "search": drawn}
    epochs = [one["params"]["epochs"] for one in list_trials(client, post(client, body)["id"])]
    fits = [3 * sum(epochs[: number + 1]) + max(epochs[: number + 1]) for number in range(9)]
    for budget in (fits[2], fits[3] - 1, fits[5], fits[8]):
        limited = post(client, {**body, "limits": {"max_epochs_trained": budget}})
        kept = sum(needed <= budget for needed in fits)
        assert limited["trials"]["total"] == kept
        assert [one["params"]["epochs"] for one in list_trials(client, limited["id"])] == epochs[:kept]


def list_trials(client: TestClient, job_id: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = client.get(f"/v1/jobs/{job_id}/trials?page_size=100").json()["items"]
    return items


def test_a_halving_search_shows_its_rungs_and_how_far_each_trial_came(client: TestClient, engine: Engine) -> None:
    search = {**GRID, "rung_levels": [1, 3, 9], "factor": 2}
    job = post(client, {"dataset": {"name": "digits"}, "search": search})
    shape = [(rung["iter"], rung["n_resources"], rung["n_candidates"], rung["state"]) for rung in job["rungs"]]
    assert shape == [(0, 1, 6, "queued"), (1, 3, 3, "queued"), (2, 9, 2, "queued")]
    assert (job["trials"]["total"], job["fits"]["total"]) == (6, 34)
    address = f"/v1/jobs/{job['id']}"
    drive(engine, job["id"], lambda claim: 0.5 + claim.trial_number / 100, fits=15)
    running = client.get(address).json()
    # Of six, four have ended, so that the best of them is certain of one of three places: it has gone on.
    assert [rung["state"] for rung in running["rungs"]] == ["running", "running", "queued"]
    drive(engine, job["id"], lambda claim: 0.5 + claim.trial_number / 100)
    trials = client.get(f"{address}/trials?page_size=100").json()["items"]
    assert [(one["state"], one["iter"], one["n_resources"]) for one in trials] == [
        *[("pruned", 0, 1)] * 3,
        ("pruned", 1, 3),
        *[("succeeded", 2, 9)] * 2,
    ]
    assert [one["rank"] for one in trials] == [6, 5, 4, 3, 2, 1]
    assert [one["params"] for one in trials] == [{"num_neurons": 8 * number} for number in range(1, 7)]
    results = client.get(f"{address}/results").json()
    assert list(results)[:2] == ["iter", "n_resources"]
    assert results["iter"] == [0] * 6 + [1] * 3 + [2] * 2
    assert results["param_epochs"] == results["n_resources"]
    assert [row["num_neurons"] for row in results["params"][6:]] == [32, 40, 48, 40, 48]
    best = client.get(f"{address}/best").json()
    assert (best["trial"], best["params"]) == (5, {"num_neurons": 48, "epochs": 9})
    assert len(best["validation"]["fold_accuracies"]) == 3
    lines = client.get(f"{address}/results?format=csv").text.splitlines()
    assert (lines[0].split(",")[:2], len(lines)) == (["iter", "n_resources"], 12)
    fits = client.get(f"{address}/trials/5").json()["fits"]
    assert [(one["fold"], one["n_resources"]) for one in fits[:6:3]] == [(0, 1), (0, 3)]
    assert fits[-1]["fold"] is None


def test_given_points_come_first(client: TestClient, engine: Engine) -> None:
    search = {"strategy": "grid", "param_grid": {"l2": [0, 0.1]}, "points_to_evaluate": [{"l2": 0.05}]}
    job = post(client, {"dataset": {"name": "digits"}, "search": search})
    trials = client.get(f"/v1/jobs/{job['id']}/trials").json()["items"]
    assert [(one["params"]["l2"], one["origin"]) for one in trials] == [(0.05, "given"), (0, "search"), (0.1, "search")]
    drawn = {"strategy": "random", "param_distributions": {"l2": [0, 0.1, 0.2]}, "n_iter": 2}
    job = post(client, {"dataset": {"name": "digits"}, "search": {**drawn, "points_to_evaluate": [{"l2": 0.05}]}})
    trials = client.get(f"/v1/jobs/{job['id']}/trials").json()["items"]
    assert [one["origin"] for one in trials] == ["given", "search"]
