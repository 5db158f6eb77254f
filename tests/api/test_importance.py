"""Importance over REST."""

from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from app.tuning.jobs.claims import Claim
from tests.support.driving import drive, grid, post

SQUARE = {
    "strategy": "grid",
    "param_grid": {"learning_rate": [0.01, 0.02, 0.03, 0.04, 0.05], "dropout_rate": [0.1, 0.2, 0.3, 0.4]},
}
HOLDOUT = {"dataset": {"name": "digits"}, "evaluation": {"validation_split": 0.5}}
DRAWN = {"l1": {"distribution": "uniform", "low": 0, "high": 1}, "num_neurons": [16, 32]}


def get(client: TestClient, job_id: str, query: str = "") -> dict[str, Any]:
    response = client.get(f"/v1/jobs/{job_id}/importance{query}")
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def by_learning_rate(claim: Claim) -> float:
    """The accuracy grows with the learning rate; each fold scatters a little."""
    return 0.5 + float(claim.params["learning_rate"]) + 0.001 * ((claim.trial_number * 7 + (claim.fold or 0) * 3) % 5)


def test_a_full_grid_is_exact(client: TestClient, engine: Engine) -> None:
    job_id = post(client, {"dataset": {"name": "digits"}, "search": SQUARE})["id"]
    drive(engine, job_id, by_learning_rate)
    found = get(client, job_id)
    assert (found["method"], found["trials"], found["reason"], found["of"]) == (
        "exact",
        20,
        None,
        "validation_score",
    )
    assert [one["name"] for one in found["importance"]] == ["learning_rate", "dropout_rate"]
    assert found["importance"][0]["share"] > 0.95 and 0 < found["noise"] < 0.05
    assert found["pairs"][0]["names"] == ["dropout_rate", "learning_rate"]
    assert all(one["low"] <= one["high"] for one in [*found["importance"], *found["pairs"]])
    assert found["version"] == client.get(f"/v1/jobs/{job_id}/table").json()["version"]
    assert get(client, job_id, "?of=fit_seconds")["reason"].endswith("the same score.")


def test_draws_are_compared_by_ped_anova(client: TestClient, engine: Engine) -> None:
    search = {"strategy": "random", "param_distributions": DRAWN, "n_iter": 24}
    job_id = post(client, {"dataset": {"name": "digits"}, "search": search, "evaluation": {"validation_split": 0.5}})[
        "id"
    ]
    drive(engine, job_id, lambda claim: 1 - float(claim.params["l1"]))
    found = get(client, job_id)
    assert (found["method"], found["pairs"], found["noise"]) == ("ped_anova", None, None)
    assert found["importance"][0]["name"] == "l1"
    assert sum(one["share"] for one in found["importance"]) == pytest.approx(1)


def test_below_twenty_trials_there_is_none_and_it_is_said_why(client: TestClient, engine: Engine) -> None:
    job_id = post(client, {"dataset": {"name": "digits"}, "search": SQUARE})["id"]
    drive(engine, job_id, by_learning_rate, fits=59)
    found = get(client, job_id)
    assert (found["importance"], found["pairs"], found["method"], found["trials"]) == (None, None, None, 19)
    assert "19 trials" in found["reason"]
    drive(engine, job_id, by_learning_rate, fits=1)
    assert get(client, job_id)["method"] == "exact"


def test_trials_of_a_rung_are_compared_with_each_other(client: TestClient, engine: Engine) -> None:
    search = SQUARE | {"strategy": "halving_grid", "max_resources": 4, "factor": 4}
    job_id = post(client, {"dataset": {"name": "digits"}, "search": search})["id"]
    drive(engine, job_id, by_learning_rate)
    found = get(client, job_id)
    assert (found["method"], found["trials"], found["n_resources"]) == ("exact", 20, 1)


def test_given_points_and_several_spaces_have_their_defaults(client: TestClient, engine: Engine) -> None:
    spaces = [{"l1": [n / 20 for n in range(11)]}, {"l2": [n / 20 for n in range(1, 11)]}]
    search = {"strategy": "grid", "param_grid": spaces, "points_to_evaluate": [{"l1": 0.9}]}
    job_id = post(client, {"dataset": {"name": "digits"}, "search": search, "evaluation": {"validation_split": 0.5}})[
        "id"
    ]
    drive(engine, job_id, lambda claim: 0.5 + float(claim.params.get("l1", 0)) / 2)
    assert {one["name"] for one in get(client, job_id)["importance"]} == {"l1", "l2"}


def test_an_unchanged_job_is_a_304_and_what_is_unknown_is_a_problem(client: TestClient, engine: Engine) -> None:
    job_id = post(client, grid(2))["id"]
    response = client.get(f"/v1/jobs/{job_id}/importance")
    again = client.get(f"/v1/jobs/{job_id}/importance", headers={"If-None-Match": response.headers["ETag"]})
    assert again.status_code == 304
    assert client.get(f"/v1/jobs/{job_id}/importance?of=loss").status_code == 422
    assert client.get("/v1/jobs/x/importance").status_code == 422
