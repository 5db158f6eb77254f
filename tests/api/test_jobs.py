"""A job's way through the REST API: posted, polled, cancelled, deleted."""

import re
from typing import Any
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from app.main import create_app
from app.tuning.database import writing
from app.tuning.jobs import claims
from tests.conftest import SilentHouse
from tests.support.driving import ARTICLE, DRAWN, MOMENT, claim, drive, grid, post, record, scores, steady


def counts(**states: int) -> dict[str, int]:
    names = ("total", "queued", "running", "succeeded", "failed", "cancelled")
    return {name: states.get(name, 0) for name in names}


def test_a_posted_job_is_accepted_with_its_address_and_a_time_to_poll(client: TestClient) -> None:
    answer = client.post("/v1/jobs", json=ARTICLE)
    job = answer.json()
    assert answer.status_code == 202
    assert answer.headers["Location"] == f"/v1/jobs/{job['id']}"
    assert int(answer.headers["Retry-After"]) >= 1
    polled = client.get(answer.headers["Location"])
    assert polled.json() == job
    assert polled.headers["ETag"] == answer.headers["ETag"]


def test_the_articles_grid_has_27_trials_and_82_fits(client: TestClient) -> None:
    job = post(client, ARTICLE)
    created_at = job.pop("created_at")
    assert MOMENT.fullmatch(created_at)
    assert job.pop("id")
    assert job == {
        "name": "seed-grid",
        "state": "queued",
        "spec": ARTICLE,
        "trials": counts(total=27, queued=27),
        "fits": counts(total=82, queued=82),
        "progress": 0.0,
        "eta_seconds": None,
        "best": None,
        "error": None,
        "labels": {"team": "vision"},
        "started_at": None,
        "ended_at": None,
    }


def test_what_a_job_leaves_out_is_filled_in(sqlite_client: TestClient) -> None:
    job = post(sqlite_client, {"search": {"strategy": "random", "param_distributions": {"l1": [0, 1]}}})
    assert job["spec"] == {
        "name": None,
        "dataset": {"name": "mnist", "train_samples": None, "test_samples": None},
        "model": "cnn",
        "search": {"strategy": "random", "param_distributions": {"l1": [0, 1]}, "n_iter": 10},
        "fixed": {},
        "evaluation": {"cv": 3, "refit": True},
        "random_state": 0,
        "limits": {"max_parallel_fits": None, "fit_timeout_seconds": 3600, "max_failed_trials": None},
        "labels": {},
    }
    assert job["name"] is None
    assert job["labels"] == {}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"evaluation": {"validation_split": 0.1}},
        {"search": {"strategy": "random", "param_distributions": [DRAWN, {"l2": [0]}], "n_iter": 3}},
        {"search": {"strategy": "grid", "param_grid": [{"epochs": [1, 2]}, {}]}},
    ],
)
def test_the_spec_that_a_job_shows_can_be_posted_again(sqlite_client: TestClient, changes: dict[str, Any]) -> None:
    shown = post(sqlite_client, grid(2) | changes)["spec"]
    assert post(sqlite_client, shown)["spec"] == shown


def test_workers_are_told_of_a_job_that_was_accepted_and_of_no_other(sqlite_client: TestClient) -> None:
    house = sqlite_client.app.state.housekeeper  # type: ignore[attr-defined]
    post(sqlite_client, grid(1))
    assert house.nudges == 1
    sqlite_client.post("/v1/jobs", json={})
    assert house.nudges == 1


@pytest.mark.parametrize("known", ["{tag}", "W/{tag}", '"0", {tag}', '"0" , W/{tag},"7"', "*", " * "])
def test_a_job_that_is_unchanged_is_not_sent_again(sqlite_client: TestClient, known: str) -> None:
    address = f"/v1/jobs/{post(sqlite_client, grid(1))['id']}"
    tag = sqlite_client.get(address).headers["ETag"]
    answer = sqlite_client.get(address, headers={"If-None-Match": known.format(tag=tag)})
    assert (answer.status_code, answer.content) == (304, b"")
    assert answer.headers["ETag"] == tag
    assert answer.headers["Retry-After"]


@pytest.mark.parametrize("known", ['"0"', 'W/"0"', "1", '"', ",", '"1', "garbage, more"])
def test_a_job_is_sent_when_another_answer_is_known(sqlite_client: TestClient, known: str) -> None:
    address = f"/v1/jobs/{post(sqlite_client, grid(1))['id']}"
    assert sqlite_client.get(address, headers={"If-None-Match": known}).status_code == 200


def test_every_step_of_a_job_changes_its_etag(client: TestClient, engine: Engine) -> None:
    job_id = post(client, grid(1, evaluation={"validation_split": 0.5, "refit": False}))["id"]
    tags = [client.get(f"/v1/jobs/{job_id}").headers["ETag"]]
    claimed = claim(engine, job_id)
    assert claimed
    tags.append(client.get(f"/v1/jobs/{job_id}").headers["ETag"])
    record(engine, claimed, 0.5)
    tags.append(client.get(f"/v1/jobs/{job_id}").headers["ETag"])
    assert len(set(tags)) == 3


def test_polling_answers_say_when_to_ask_again_until_the_job_has_ended(client: TestClient, engine: Engine) -> None:
    address = f"/v1/jobs/{post(client, grid(1))['id']}"
    polled = ["", "/best", "/trials", "/trials/0", "/results", "/results?format=csv"]
    assert all(int(client.get(address + more).headers["Retry-After"]) >= 1 for more in polled)
    drive(engine, address.rsplit("/", 1)[1], steady)
    assert client.get(address).json()["state"] == "succeeded"
    assert not any("Retry-After" in client.get(address + more).headers for more in polled)


def test_a_running_job_counts_what_has_been_done(client: TestClient, engine: Engine) -> None:
    job_id = post(client, grid(2))["id"]
    drive(engine, job_id, steady, fits=3)
    claim(engine, job_id)
    job = client.get(f"/v1/jobs/{job_id}").json()
    assert job["state"] == "running"
    assert job["trials"] == counts(total=2, running=1, succeeded=1)
    assert job["fits"] == counts(total=7, queued=3, running=1, succeeded=3)
    assert job["progress"] == pytest.approx(3 / 7)
    assert job["eta_seconds"] > 0
    assert job["best"] == {"trial": 0, "params": {"learning_rate": 0.0001}, "validation_accuracy": 0.5}
    assert MOMENT.fullmatch(job["started_at"])
    assert job["ended_at"] is None


def test_a_job_succeeds_when_every_trial_has_ended_and_the_winner_was_refitted(
    client: TestClient, engine: Engine
) -> None:
    job_id = post(client, grid(2))["id"]
    drive(engine, job_id, scores({0: [0.5, None, 0.5], 1: [0.7, 0.7, 0.7]}))
    job = client.get(f"/v1/jobs/{job_id}").json()
    assert (job["state"], job["progress"], job["eta_seconds"], job["error"]) == ("succeeded", 1.0, 0.0, None)
    assert job["trials"] == counts(total=2, succeeded=1, failed=1)
    assert job["fits"] == counts(total=7, succeeded=6, failed=1)
    assert MOMENT.fullmatch(job["ended_at"])


def test_a_job_fails_when_no_trial_has_succeeded(client: TestClient, engine: Engine) -> None:
    job_id = post(client, grid(2))["id"]
    drive(engine, job_id, lambda _: None)
    job = client.get(f"/v1/jobs/{job_id}").json()
    assert (job["state"], job["best"], job["progress"]) == ("failed", None, 1.0)
    assert set(job["error"]) == {"type", "message", "traceback"}
    assert "the loss is not a number" in job["error"]["message"]


def test_a_job_whose_refit_fails_has_failed_and_keeps_its_best(client: TestClient, engine: Engine) -> None:
    job_id = post(client, grid(1))["id"]
    drive(engine, job_id, scores({0: [0.5, 0.5, 0.5]}, refit=None))
    job = client.get(f"/v1/jobs/{job_id}").json()
    assert (job["state"], job["error"]["type"], job["best"]["trial"]) == ("failed", "ValueError", 0)


def test_a_queued_job_is_cancelled_at_once_and_cancelling_twice_is_the_same(client: TestClient) -> None:
    address = f"/v1/jobs/{post(client, grid(2))['id']}"
    answer = client.post(f"{address}/cancel")
    assert answer.status_code == 202
    assert answer.json()["state"] == "cancelled"
    assert answer.json()["trials"] == counts(total=2, cancelled=2)
    assert "Retry-After" not in answer.headers
    again = client.post(f"{address}/cancel")
    assert (again.status_code, again.json()) == (202, answer.json())
    assert again.headers["ETag"] == answer.headers["ETag"] == client.get(address).headers["ETag"]


def test_a_running_job_is_cancelling_until_its_last_fit_has_stopped(client: TestClient, engine: Engine) -> None:
    job_id = post(client, grid(2))["id"]
    claimed = claim(engine, job_id)
    assert claimed
    answer = client.post(f"/v1/jobs/{job_id}/cancel")
    assert (answer.status_code, answer.json()["state"]) == (202, "cancelling")
    assert answer.headers["Retry-After"]
    assert client.post(f"/v1/jobs/{job_id}/cancel").json() == answer.json()
    assert client.delete(f"/v1/jobs/{job_id}").status_code == 409
    with writing(engine) as session:
        assert claims.stop(session, claimed)
    job = client.get(f"/v1/jobs/{job_id}").json()
    assert (job["state"], job["fits"]) == ("cancelled", counts(total=7, cancelled=7))
    assert MOMENT.fullmatch(job["ended_at"])


@pytest.mark.parametrize("accuracy", [0.5, None])
def test_a_job_that_has_ended_in_another_way_cannot_be_cancelled(
    sqlite_client: TestClient, sqlite_engine: Engine, accuracy: float | None
) -> None:
    job_id = post(sqlite_client, grid(1))["id"]
    drive(sqlite_engine, job_id, lambda _: accuracy)
    answer = sqlite_client.post(f"/v1/jobs/{job_id}/cancel")
    assert answer.status_code == 409
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_a_job_that_has_ended_can_be_deleted_with_all_that_hangs_on_it(client: TestClient, engine: Engine) -> None:
    job_id = post(client, grid(2))["id"]
    kept = post(client, grid(1))["id"]
    assert client.delete(f"/v1/jobs/{job_id}").status_code == 409
    drive(engine, job_id, steady)
    answer = client.delete(f"/v1/jobs/{job_id}")
    assert (answer.status_code, answer.content) == (204, b"")
    for more in ("", "/best", "/trials", "/trials/0", "/results"):
        assert client.get(f"/v1/jobs/{job_id}{more}").status_code == 404
    assert client.delete(f"/v1/jobs/{job_id}").status_code == 404
    assert [job["id"] for job in client.get("/v1/jobs").json()["items"]] == [kept]


def test_what_is_not_there_is_a_404_everywhere(client: TestClient) -> None:
    job_id = post(client, grid(1))["id"]
    missing = f"/v1/jobs/{uuid4()}"
    asked = [("GET", missing + more) for more in ("", "/best", "/trials", "/trials/0", "/results")]
    asked += [("DELETE", missing), ("POST", f"{missing}/cancel"), ("GET", f"/v1/jobs/{job_id}/trials/1")]
    asked += [("GET", f"/v1/jobs/{job_id}/nothing"), ("GET", "/v1/jobs/"), ("GET", "/"), ("GET", "/v2/jobs")]
    for method, address in asked:
        answer = client.request(method, address, follow_redirects=False)
        assert (answer.status_code, answer.headers["Content-Type"]) == (404, "application/problem+json"), address
        assert answer.json()["status"] == 404


@pytest.mark.parametrize(
    ("method", "address", "allowed"),
    [
        ("PUT", "/v1/jobs", "GET, HEAD, POST"),
        ("DELETE", "/v1/jobs", "GET, HEAD, POST"),
        ("PATCH", "/v1/jobs/{id}", "DELETE, GET, HEAD"),
        ("POST", "/v1/jobs/{id}", "DELETE, GET, HEAD"),
        ("GET", "/v1/jobs/{id}/cancel", "POST"),
        ("POST", "/v1/jobs/{id}/best", "GET, HEAD"),
        ("POST", "/readyz", "GET, HEAD"),
        ("POST", "/v1/models", "GET, HEAD"),
        ("POST", "/docs", "GET, HEAD"),
        ("POST", "/openapi.json", "GET, HEAD"),
        ("HEAD", "/v1/jobs/{id}/cancel", "POST"),
        ("TRACE", "/v1/jobs", "GET, HEAD, POST"),
    ],
)
def test_a_method_that_an_address_has_not_is_a_405_with_those_it_has(
    sqlite_client: TestClient, method: str, address: str, allowed: str
) -> None:
    answer = sqlite_client.request(method, address.format(id=uuid4()))
    assert (answer.status_code, answer.headers["Allow"]) == (405, allowed)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert method == "HEAD" or allowed in answer.json()["detail"]


@pytest.mark.parametrize("known", [['"9"', "{tag}"], ["{tag}", '"9"'], ['"8", "9"', 'W/{tag}, "7"'], ["", "*"]])
def test_known_tags_may_stand_in_several_lines(sqlite_client: TestClient, known: list[str]) -> None:
    address = f"/v1/jobs/{post(sqlite_client, grid(1))['id']}"
    tag = sqlite_client.get(address).headers["ETag"]
    lines = [("If-None-Match", line.format(tag=tag)) for line in known]
    assert sqlite_client.get(address, headers=lines).status_code == 304
    assert sqlite_client.get(address, headers=[("If-None-Match", '"9"'), ("If-None-Match", '"8"')]).status_code == 200


OF_A_JOB = ("", "/best", "/trials", "/trials/0", "/results", "/results?format=csv", "x", "/trials/9")
OF_ALL = (
    "/v1/jobs?state=running",
    "/v1/jobs?state=odd",
    "/v1/models",
    "/v1/datasets",
    "/livez",
    "/docs",
    "/openapi.json",
)


@pytest.mark.parametrize("address", [*(f"/v1/jobs/{{id}}{what}" for what in OF_A_JOB), *OF_ALL, "/v1/nothing"])
def test_a_head_is_answered_as_the_get_without_its_body(client: TestClient, engine: Engine, address: str) -> None:
    job_id = post(client, grid(2))["id"]
    drive(engine, job_id, steady)
    got, asked = (client.request(method, address.format(id=job_id)) for method in ("GET", "HEAD"))
    assert (asked.status_code, dict(asked.headers)) == (got.status_code, dict(got.headers))
    assert got.content and not asked.content


def test_behind_a_prefix_the_location_leads_to_the_job(engine: Engine) -> None:
    with TestClient(create_app(engine, SilentHouse), root_path="/tunewell") as client:
        answers = [client.post("/v1/jobs", json=grid(1), headers={"Idempotency-Key": "a"}) for _ in range(2)]
        job_id = answers[0].json()["id"]
        assert [answer.headers["Location"] for answer in answers] == [f"/tunewell/v1/jobs/{job_id}"] * 2
        assert client.get(answers[0].headers["Location"]).json() == answers[0].json()
        docs = client.get("/tunewell/docs").text
        assert "'/tunewell/openapi.json'" in docs
        for address in re.findall(r'(?:src|href)="([^"]+)"', docs):
            assert address.startswith("/tunewell/") and client.get(address).status_code == 200
        assert client.get("/tunewell/openapi.json").json()["servers"] == [{"url": "/tunewell"}]
        assert client.put("/tunewell/v1/jobs").headers["Allow"] == "GET, HEAD, POST"
