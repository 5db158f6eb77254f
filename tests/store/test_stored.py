"""Jobs stored by another version of Tunewell: read leniently, and no obstacle to other jobs."""

import json
from typing import Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, text

from app.tuning.database import reading, writing
from app.tuning.jobs import claims, outcomes
from app.tuning.jobs.attempts import Lost
from app.tuning.jobs.tables import Outcome
from app.tuning.search.stored import load_json
from tests.support.driving import claim, drive, grid, post, record, steady
from tests.support.ledger import GONE, scored
from tests.support.watching import Watching
from worker import runner

UNREADABLE: dict[str, dict[str, Any]] = {
    "strategy": {"search": {"strategy": "tpe", "param_grid": {"learning_rate": [0.1]}}},
    "model": {"model": "mixer"},
    "model of layers": {"model": {"layers": []}},
    "data set": {"dataset": {"name": "of-tomorrow", "train_samples": None, "test_samples": None}},
    "evaluation": {"evaluation": {"cv": 25}},
    "searched hyperparameter": {
        "search": {"strategy": "grid", "param_grid": {"num_heads": [2]}, "points_to_evaluate": [], "forbidden": []}
    },
    "searched value": {
        "search": {
            "strategy": "grid",
            "param_grid": {"activation": ["relu", "swish"]},
            "points_to_evaluate": [],
            "forbidden": [],
        }
    },
    "drawn hyperparameter": {
        "search": {
            "strategy": "random",
            "param_distributions": [{"num_heads": {"distribution": "randint", "low": 1, "high": 9}}],
            "n_iter": 10,
            "points_to_evaluate": [],
            "forbidden": [],
        }
    },
    "distribution": {
        "search": {"strategy": "random", "param_distributions": {"l1": {"distribution": "normal", "loc": 0}}}
    },
    "fixed hyperparameter": {"fixed": {"num_heads": 4}},
    "fixed value": {"fixed": {"optimizer": "lion"}},
    "labels": {"labels": ["a"]},
    "name": {"name": {"first": "a"}},
}
GARBAGE = ("null", "[]", '"spec"', "{}", "7")


class Process:
    """A training process that is never asked to stop."""

    def stopping(self) -> bool:
        return False

    def watch(self, within: float) -> None:
        """Nothing watches."""

    def rest(self) -> None:
        """Nothing is trained."""

    def pause(self, seconds: float) -> None:
        pass


def store_as(engine: Engine, job_id: str, column: str, value: str, table: str = "jobs") -> None:
    """Write a column of the job's rows as another version might have."""
    postgres = engine.dialect.name == "postgresql"
    kind = "json" if postgres and column != "state" else "text"
    key = "id" if table == "jobs" else "job_id"
    change = text(f"UPDATE {table} SET {column} = CAST(:value AS {kind}) WHERE {key} = :id")
    with engine.execution_options(writes=True).begin() as connection:
        connection.execute(change, {"value": value, "id": UUID(job_id) if postgres else UUID(job_id).hex})


def train_all(engine: Engine) -> int:
    """Train everything that a worker may claim."""
    return runner.run_fits(engine, lambda claim, heartbeat: scored(0.5), "w1@here", "message", Process(), 100)


def test_fields_that_this_version_does_not_know_are_ignored_at_every_depth(engine: Engine, client: TestClient) -> None:
    distributions = {"l1": {"distribution": "uniform", "loc": 0, "scale": 1}}
    searches = [
        grid(2)["search"],
        {"strategy": "random", "param_distributions": distributions, "n_iter": 2},
        {"strategy": "random", "param_distributions": [distributions], "n_iter": 2},
    ]
    for search in searches:
        job = post(client, grid(2) | {"search": search})
        spec = json.loads(json.dumps(job["spec"]))
        for part in (spec, spec["limits"], spec["dataset"], spec["search"], spec["evaluation"]):
            part["of_tomorrow"] = {"a": [1]}
        for spaces in [spec["search"].get("param_distributions", {})]:
            (spaces[0] if isinstance(spaces, list) else spaces).get("l1", {})["of_tomorrow"] = 1
        store_as(engine, job["id"], "spec", json.dumps(spec))
        assert client.get(f"/v1/jobs/{job['id']}").json() == job
        assert train_all(engine) == 7
        assert client.get(f"/v1/jobs/{job['id']}").json()["state"] == "succeeded"
    assert len(client.get("/v1/jobs").json()["items"]) == 3


def test_missing_fields_have_their_defaults(engine: Engine, client: TestClient) -> None:
    job = post(client, grid(1))
    store_as(engine, job["id"], "spec", json.dumps({"dataset": {"name": "digits"}, "search": job["spec"]["search"]}))
    assert client.get(f"/v1/jobs/{job['id']}").json() == job


@pytest.mark.slow
@pytest.mark.parametrize("part", [*UNREADABLE, *GARBAGE])
def test_only_the_job_that_cannot_be_run_says_so(part: str, engine: Engine, client: TestClient) -> None:
    job, other = post(client, grid(2)), post(client, grid(1))
    stored = job["spec"] | UNREADABLE[part] if part in UNREADABLE else json.loads(part)
    record(engine, claim(engine, job["id"]) or pytest.fail("nothing to claim"), 0.5)
    store_as(engine, job["id"], "spec", json.dumps(stored))
    address = f"/v1/jobs/{job['id']}"
    response = client.get(address)
    shown = response.json()
    assert (shown["state"], shown["spec"], shown["error"]["type"]) == ("running", stored, "UnreadableSpec")
    assert "cannot run this stored job" in shown["error"]["message"]
    assert client.get(address, headers={"If-None-Match": response.headers["ETag"]}).status_code == 304
    assert [one["id"] for one in client.get("/v1/jobs").json()["items"]] == [other["id"], job["id"]]
    for page in ("/trials", "/trials/0", "/results", "/results?format=csv"):
        assert client.get(f"{address}{page}").status_code == 200
    assert client.get(f"{address}/best").status_code == 409
    Watching(engine).look()
    assert train_all(engine) == 4  # the other's
    assert client.get(f"/v1/jobs/{other['id']}").json()["state"] == "succeeded"
    assert client.post(f"{address}/cancel").json()["state"] == "cancelled"
    assert client.get("/v1/jobs?state=cancelled").json()["items"][0]["error"]["type"] == "UnreadableSpec"
    assert client.delete(address).status_code == 204


def test_a_job_that_could_not_be_run_goes_on_once_it_can(engine: Engine, client: TestClient) -> None:
    job = post(client, grid(2))
    store_as(engine, job["id"], "spec", json.dumps(job["spec"] | {"model": "mixer"}))
    assert train_all(engine) == 0
    with reading(engine) as session:
        assert claims.list_claimable(session) == []
    store_as(engine, job["id"], "spec", json.dumps(job["spec"]))
    assert train_all(engine) == 7
    assert client.get(f"/v1/jobs/{job['id']}").json()["state"] == "succeeded"


def test_running_fits_of_such_a_job_are_recorded_and_lost_ones_are_retried(engine: Engine, client: TestClient) -> None:
    job = post(client, grid(2, evaluation={"cv": 2}))
    running = claim(engine, job["id"]) or pytest.fail("nothing to claim")
    for _ in range(4):
        lost = claim(engine, job["id"]) or pytest.fail("nothing to claim")
        store_as(engine, job["id"], "spec", json.dumps(job["spec"] | {"model": "mixer"}))
        with writing(engine) as session:
            assert outcomes.record(session, lost, Lost(Outcome.LOST, GONE))
        store_as(engine, job["id"], "spec", json.dumps(job["spec"]))
    store_as(engine, job["id"], "spec", json.dumps(job["spec"] | {"model": "mixer"}))
    record(engine, running, 0.75)
    found = client.get(f"/v1/jobs/{job['id']}").json()
    assert (found["state"], found["fits"]["succeeded"], found["fits"]["queued"]) == ("running", 1, 4)


def test_the_best_of_an_ended_job_is_shown_without_an_unreadable_test_result(
    engine: Engine, client: TestClient
) -> None:
    job = post(client, grid(2))
    drive(engine, job["id"], steady)
    best = client.get(f"/v1/jobs/{job['id']}/best").json()
    store_as(engine, job["id"], "spec", json.dumps(job["spec"] | {"dataset": {"name": "of-tomorrow"}}))
    unknown = {"test": None, "validation": best["validation"] | {"scoring": None}}
    assert client.get(f"/v1/jobs/{job['id']}/best").json() == best | unknown


@pytest.mark.parametrize(
    "params", ['{"num_heads": 2}', '{"learning_rate": "fast"}', '{"layers": [1, null]}', "7", "[]"]
)
def test_a_candidate_that_this_version_cannot_train_is_not_claimed(
    params: str, engine: Engine, client: TestClient
) -> None:
    job, other = post(client, grid(1)), post(client, grid(1))
    store_as(engine, job["id"], "params", params, "trials")
    assert train_all(engine) == 4
    states = [one["state"] for one in client.get("/v1/jobs").json()["items"]]
    assert states == ["succeeded", "queued"] and other["state"] == "queued"
    address = f"/v1/jobs/{job['id']}/trials"
    assert client.get(address).json()["items"][0]["params"] == json.loads(params)
    assert client.get(f"{address}/0").json()["params"] == json.loads(params)
    store_as(engine, job["id"], "params", params, "trials")
    store_as(engine, job["id"], "state", "succeeded", "trials")
    assert client.get(f"/v1/jobs/{job['id']}/results").json()["params"] == [json.loads(params)]


def test_errors_and_environments_of_other_versions_are_shown_as_they_are(engine: Engine, client: TestClient) -> None:
    job = post(client, grid(2))
    drive(engine, job["id"], steady)
    address = f"/v1/jobs/{job['id']}"
    environment, error = {"tunewell": "9", "processor": "of tomorrow"}, {"type": "A", "message": "b", "code": 7}
    store_as(engine, job["id"], "environment", json.dumps(environment))
    store_as(engine, job["id"], "error", json.dumps(error))
    for table in ("trials", "fits"):
        store_as(engine, job["id"], "error", json.dumps(error), table)
    assert client.get(f"{address}/best").json()["environment"] == environment
    expected = {"type": "A", "message": "b", "traceback": None}
    trial = client.get(f"{address}/trials/0").json()
    assert client.get(address).json()["error"] == trial["error"] == trial["fits"][0]["error"] == expected
    store_as(engine, job["id"], "error", json.dumps([1]))
    assert client.get(address).json()["error"] == [1]


def test_states_of_other_versions_are_shown_as_they_are(engine: Engine, client: TestClient) -> None:
    job = post(client, grid(2))
    address = f"/v1/jobs/{job['id']}"
    store_as(engine, job["id"], "state", "paused")
    for table in ("trials", "fits"):
        store_as(engine, job["id"], "state", "pruned", table)
    assert client.get(address).json()["state"] == client.get("/v1/jobs").json()["items"][0]["state"] == "paused"
    assert client.get(f"{address}/trials").json()["items"][0]["state"] == "pruned"
    assert client.get(f"{address}/trials/0").json()["fits"][0]["state"] == "pruned"
    assert train_all(engine) == 0
    assert client.delete(address).status_code == 409
    assert client.post(f"{address}/cancel").json()["state"] == "cancelled"


def test_a_column_with_invalid_json_is_shown_as_text(sqlite_engine: Engine, sqlite_client: TestClient) -> None:
    job, other = post(sqlite_client, grid(2)), post(sqlite_client, grid(1))
    for spec in ("no { JSON", "", "NaN", '{"a": "\\ud800"}', "[" * 100_000):
        store_as(sqlite_engine, job["id"], "spec", spec)
        assert [one["spec"] for one in sqlite_client.get("/v1/jobs").json()["items"]] == [other["spec"], spec]
    assert train_all(sqlite_engine) == 4


def test_stored_json_is_read_from_bytes_too() -> None:
    assert load_json(b'{"a": "\\u00e9"}') == {"a": "\u00e9"}
    assert load_json(b"\xff") == "\ufffd"


def test_a_trial_that_cannot_be_read_is_passed_over_and_logged_once(
    engine: Engine, client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    job, other = post(client, grid(1)), post(client, grid(1))
    store_as(engine, job["id"], "params", '{"of_tomorrow": 1}', table="trials")
    assert [train_all(engine), train_all(engine)] == [4, 0]
    assert client.get(f"/v1/jobs/{other['id']}").json()["state"] == "succeeded"
    [line] = [record for record in caplog.records if "passed over" in record.message]
    assert line.__dict__["job"] == job["id"]
    assert "/trials/0/params" in line.__dict__["reason"]
