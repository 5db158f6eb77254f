"""An extended search has the rows of one that was posted so."""

import random
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from app.tuning.jobs.claims import Claim
from tests.support.driving import Spec, claim, drive, grid, post, record
from tests.support.ledger import Ledger

DISTRIBUTIONS = {"learning_rate": {"distribution": "loguniform", "low": 0.001, "high": 0.1}, "l2": [0, 0.01]}
NEURONS = {"num_neurons": [8, 16, 24, 32, 40, 48, 56, 64, 72]}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "more draws": ({"strategy": "random", "param_distributions": DISTRIBUTIONS, "n_iter": 4}, {"n_iter": 9}),
    "more values": (
        {"strategy": "grid", "param_grid": {"l2": [0, 0.1], "num_neurons": [8, 32]}},
        {"param_grid": {"l2": [0, 0.01, 0.1], "num_neurons": [8, 16, 32]}},
    ),
    "a rung more": (
        {"strategy": "halving_grid", "param_grid": NEURONS, "max_resources": 3, "min_resources": 1},
        {"max_resources": 9},
    ),
    "two rungs more": (
        {"strategy": "halving_grid", "param_grid": NEURONS, "max_resources": 1, "min_resources": 1},
        {"max_resources": 9},
    ),
    "a rung more of folds": (
        {
            "strategy": "halving_grid",
            "param_grid": NEURONS,
            "max_resources": 1,
            "min_resources": 1,
            "resource": "folds",
        },
        {"max_resources": 3},
    ),
}


def score(claimed: Claim) -> float | None:
    """By what is trained and not by the trial's number, which an extension may change."""
    draw = random.Random(f"{claimed.params} {claimed.fold} {claimed.n_resources}")
    return None if claimed.fold is not None and draw.random() < 0.1 else draw.randint(1, 9) / 10


def job_of(search: dict[str, Any]) -> Spec:
    return {"dataset": {"name": "digits"}, "search": search}


def extend(client: TestClient, job_id: str, extension: dict[str, Any], status: int = 202) -> dict[str, Any]:
    response = client.post(f"/v1/jobs/{job_id}/extend", json=extension)
    assert response.status_code == status, response.text
    body: dict[str, Any] = response.json()
    return body


def shown(client: TestClient, job_id: str) -> dict[str, Any]:
    """All that is shown of an ended job's search, without what is measured."""
    address = f"/v1/jobs/{job_id}"
    job = client.get(address).json()
    results = client.get(f"{address}/results").json()
    best = client.get(f"{address}/best").json()
    trials = client.get(f"{address}/trials?page_size=100").json()["items"]
    same = ("state", "spec", "trials", "fits", "rungs", "best", "error")
    return {
        "job": {name: job[name] for name in same},
        "results": {name: column for name, column in results.items() if "time" not in name},
        "best": {name: best[name] for name in ("final", "trial", "params", "validation", "test")},
        "trials": [{name: trial[name] for name in trial if name != "fit_seconds"} for trial in trials],
    }


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_the_rows_are_those_of_a_job_that_was_posted_so(case: str, client: TestClient, engine: Engine) -> None:
    rows, expected = extend_after(None, *CASES[case], client, engine)
    assert rows == expected


@pytest.mark.slow
@pytest.mark.parametrize("fits", [0, 5, 17])
@pytest.mark.parametrize("case", CASES)
def test_a_running_job_is_extended(case: str, fits: int, sqlite_client: TestClient, sqlite_engine: Engine) -> None:
    rows, expected = extend_after(fits, *CASES[case], sqlite_client, sqlite_engine)
    assert rows == expected


def extend_after(
    fits: int | None, search: dict[str, Any], extension: dict[str, Any], client: TestClient, engine: Engine
) -> tuple[dict[str, Any], dict[str, Any]]:
    """All that is shown of a job that was extended after so many fits, or at its end, and of one posted so."""
    expected = post(client, job_of({**search, **extension}))["id"]
    drive(engine, expected, score)
    job_id = post(client, job_of(search))["id"]
    drive(engine, job_id, score, fits)
    held = claim(engine, job_id) if fits in (0, 5) else None
    extend(client, job_id, extension)
    Ledger(engine).audit()
    if held:
        record(engine, held, score(held))
    drive(engine, job_id, score)
    Ledger(engine).audit()
    return shown(client, job_id), shown(client, expected)


def test_a_job_is_extended_again_and_again(client: TestClient, engine: Engine) -> None:
    search, _ = CASES["more draws"]
    expected = post(client, job_of({**search, "n_iter": 8}))["id"]
    drive(engine, expected, score)
    job_id = post(client, job_of(search))["id"]
    for n_iter in (4, 6, 8):
        extend(client, job_id, {"n_iter": n_iter})
        drive(engine, job_id, score)
    assert shown(client, job_id) == shown(client, expected)


@pytest.mark.parametrize(
    ("search", "changes", "extension", "pointer", "hint"),
    [
        (CASES["more draws"][0], {}, {}, "", "exactly one"),
        (CASES["more draws"][0], {}, {"n_iter": 5, "max_resources": 9}, "", "exactly one"),
        (CASES["more draws"][0], {}, {"n_iter": None}, "", "exactly one"),
        (CASES["more draws"][0], {}, {"n_iter": 0}, "/n_iter", "greater than or equal to 1"),
        (CASES["more draws"][0], {}, {"n_iter": 3}, "", "must contain all"),
        (CASES["more draws"][0], {}, {"param_grid": {"l2": [0]}}, "/param_grid", "'random'"),
        (CASES["more draws"][0], {}, {"number": 5}, "/number", "Unknown field"),
        (
            {"strategy": "random", "param_distributions": {"l2": [0, 0.1, 0.2]}, "n_iter": 2},
            {},
            {"n_iter": 3},
            "/n_iter",
            "depend on their number",
        ),
        (CASES["more values"][0], {}, {"param_grid": {"l2": [0]}}, "", "must contain all"),
        (CASES["more values"][0], {}, {"param_grid": {"l3": [0]}}, "/search/param_grid/l3/0", "Unknown hyperparameter"),
        (
            CASES["more values"][0],
            {"evaluation": {"cv": 3, "race": {"method": "lossless"}}},
            CASES["more values"][1],
            "/param_grid",
            "race",
        ),
        (CASES["a rung more"][0], {}, {"max_resources": 3}, "/max_resources", "next level is 9"),
        (CASES["a rung more"][0], {}, {"max_resources": 8}, "/max_resources", "next level is 9"),
    ],
)
def test_what_cannot_be_extended_is_rejected_with_what_would_be_right(
    search: dict[str, Any],
    changes: dict[str, Any],
    extension: dict[str, Any],
    pointer: str,
    hint: str,
    sqlite_client: TestClient,
) -> None:
    job_id = post(sqlite_client, {**job_of(search), **changes})["id"]
    before = sqlite_client.get(f"/v1/jobs/{job_id}").json()
    [error] = extend(sqlite_client, job_id, extension, 422)["errors"]
    assert error["pointer"] == pointer
    assert hint in error["message"]
    assert sqlite_client.get(f"/v1/jobs/{job_id}").json() == before


def test_a_cancelled_job_is_not_extended(client: TestClient) -> None:
    job_id = post(client, job_of(CASES["more draws"][0]))["id"]
    client.post(f"/v1/jobs/{job_id}/cancel")
    assert "post it as a new job" in extend(client, job_id, {"n_iter": 9}, 409)["detail"]


def test_a_missing_job_is_not_found(sqlite_client: TestClient) -> None:
    missing = extend(sqlite_client, "7d1c9b6e-6f0a-4c39-9d0e-0d6c3a1f2b11", {"n_iter": 9}, 404)
    assert missing["detail"] == "No such job."


def test_a_job_is_not_extended_while_its_winner_is_trained(client: TestClient, engine: Engine) -> None:
    job_id = post(client, grid(1))["id"]
    drive(engine, job_id, lambda _: 0.5, fits=3)
    assert claim(engine, job_id)
    extension = {"param_grid": {"learning_rate": [0.0001, 0.5]}}
    assert "The winner is being trained" in extend(client, job_id, extension, 409)["detail"]
