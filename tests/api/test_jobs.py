"""A job's life over REST: create, poll, cancel, delete."""

import re
from typing import Any
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from app.main import create_app
from app.tuning.database import writing
from app.tuning.jobs import outcomes
from app.tuning.jobs.attempts import Cancelled
from tests.conftest import IdleHousekeeper
from tests.support.driving import ARTICLE, DRAWN, MOMENT, claim, drive, grid, post, record, scores, steady


def counts(**states: int) -> dict[str, int]:
    names = ("total", "queued", "running", "succeeded", "failed", "cancelled")
    return {name: 0 for name in names} | states


def test_a_posted_job_is_accepted_with_location_and_retry_after(client: TestClient) -> None:
    response = client.post("/v1/jobs", json=ARTICLE)
    job = response.json()
    assert response.status_code == 202
    assert response.headers["Location"] == f"/v1/jobs/{job['id']}"
    assert int(response.headers["Retry-After"]) >= 1
    polled = client.get(response.headers["Location"])
    assert polled.json() == job
    assert polled.headers["ETag"] == response.headers["ETag"]


def test_the_articles_grid_has_27_trials_and_82_fits(client: TestClient) -> None:
    job = post(client, ARTICLE)
    created_at = job.pop("created_at")
    assert MOMENT.fullmatch(created_at)
    assert job.pop("id")
    assert job == {
        "name": "seed-grid",
        "state": "queued",
        "spec": ARTICLE,
        "scoring": "accuracy",
        "trials": counts(total=27, queued=27, pruned=0),
        "fits": counts(total=82, queued=82),
        "rungs": [],
        "epochs_trained": 0,
        "epochs_reused": 0,
        "skipped": 0,
        "reproducible": True,
        "reproducible_because": None,
        "progress": 0.0,
        "eta_seconds": None,
        "best": None,
        "error": None,
        "labels": {"team": "vision"},
        "note": "",
        "started_at": None,
        "ended_at": None,
    }


def test_a_job_counts_the_points_that_it_skips(client: TestClient) -> None:
    search = grid(4)["search"] | {"forbidden": [{"learning_rate": 0.0001}]}
    job = post(client, grid(4) | {"search": search})
    assert (job["trials"]["total"], job["skipped"]) == (3, 1)
    assert job["spec"]["search"]["forbidden"] == search["forbidden"]
    shown = client.get(f"/v1/jobs/{job['id']}/trials").json()["items"]
    assert [trial["number"] for trial in shown] == [0, 1, 2]


def test_omitted_fields_get_their_defaults(sqlite_client: TestClient) -> None:
    job = post(sqlite_client, {"search": {"strategy": "random", "param_distributions": {"l1": [0, 1]}}})
    assert job["spec"] == {
        "name": None,
        "dataset": {"name": "mnist", "train_samples": None, "test_samples": None},
        "model": "cnn",
        "search": {
            "strategy": "random",
            "param_distributions": {"l1": [0, 1]},
            "n_iter": 10,
            "points_to_evaluate": [],
            "forbidden": [],
        },
        "fixed": {},
        "evaluation": {
            "cv": 3,
            "refit": True,
            "keep_model": True,
            "repeats": 1,
            "race": None,
            "select": "best",
            "scoring": None,
        },
        "random_state": 0,
        "warm_start": None,
        "limits": {
            "max_parallel_fits": None,
            "fit_timeout_seconds": 3600,
            "max_failed_trials": None,
            "reuse": True,
            "max_epochs_trained": None,
        },
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
def test_the_spec_of_a_job_can_be_posted_again(sqlite_client: TestClient, changes: dict[str, Any]) -> None:
    shown = post(sqlite_client, grid(2) | changes)["spec"]
    assert post(sqlite_client, shown)["spec"] == shown


def test_workers_are_notified_of_accepted_jobs_only(sqlite_client: TestClient) -> None:
    house = sqlite_client.app.state.housekeeper  # type: ignore[attr-defined]
    post(sqlite_client, grid(1))
    assert house.nudges == 1
    sqlite_client.post("/v1/jobs", json={})
    assert house.nudges == 1


@pytest.mark.parametrize("known", ["{tag}", "W/{tag}", '"0", {tag}', '"0" , W/{tag},"7"', "*", " * "])
def test_an_unchanged_job_gets_304(sqlite_client: TestClient, known: str) -> None:
    path = f"/v1/jobs/{post(sqlite_client, grid(1))['id']}"
    tag = sqlite_client.get(path).headers["ETag"]
    response = sqlite_client.get(path, headers={"If-None-Match": known.format(tag=tag)})
    assert (response.status_code, response.content) == (304, b"")
    assert response.headers["ETag"] == tag
    assert response.headers["Retry-After"]


@pytest.mark.parametrize("known", ['"0"', 'W/"0"', "1", '"', ",", '"1', "garbage, more"])
def test_a_job_with_another_etag_is_sent(sqlite_client: TestClient, known: str) -> None:
    path = f"/v1/jobs/{post(sqlite_client, grid(1))['id']}"
    assert sqlite_client.get(path, headers={"If-None-Match": known}).status_code == 200


def test_every_change_of_a_job_changes_its_etag(client: TestClient, engine: Engine) -> None:
    job_id = post(client, grid(1, evaluation={"validation_split": 0.5, "refit": False}))["id"]
    tags = [client.get(f"/v1/jobs/{job_id}").headers["ETag"]]
    claimed = claim(engine, job_id)
    assert claimed
    tags.append(client.get(f"/v1/jobs/{job_id}").headers["ETag"])
    record(engine, claimed, 0.5)
    tags.append(client.get(f"/v1/jobs/{job_id}").headers["ETag"])
    assert len(set(tags)) == 3


def test_responses_have_retry_after_until_the_job_has_ended(client: TestClient, engine: Engine) -> None:
    path = f"/v1/jobs/{post(client, grid(1))['id']}"
    polled = ["", "/best", "/trials", "/trials/0", "/results", "/results?format=csv"]
    assert all(int(client.get(path + more).headers["Retry-After"]) >= 1 for more in polled)
    drive(engine, path.rsplit("/", 1)[1], steady)
    assert client.get(path).json()["state"] == "succeeded"
    assert not any("Retry-After" in client.get(path + more).headers for more in polled)


def test_a_running_job_counts_its_progress(client: TestClient, engine: Engine) -> None:
    job_id = post(client, grid(2))["id"]
    drive(engine, job_id, steady, fits=3)
    claim(engine, job_id)
    job = client.get(f"/v1/jobs/{job_id}").json()
    assert job["state"] == "running"
    assert job["trials"] == counts(pruned=0, total=2, running=1, succeeded=1)
    assert job["fits"] == counts(total=7, queued=3, running=1, succeeded=3)
    assert job["progress"] == pytest.approx(3 / 7)
    assert job["eta_seconds"] > 0
    assert job["best"] == {
        "trial": 0,
        "params": {"learning_rate": 0.0001},
        "validation_score": 0.5,
        "validation_accuracy": 0.5,
    }
    assert MOMENT.fullmatch(job["started_at"])
    assert job["ended_at"] is None


def test_a_job_succeeds_once_all_trials_have_ended_and_the_best_is_refitted(client: TestClient, engine: Engine) -> None:
    job_id = post(client, grid(2))["id"]
    drive(engine, job_id, scores({0: [0.5, None, 0.5], 1: [0.7, 0.7, 0.7]}))
    job = client.get(f"/v1/jobs/{job_id}").json()
    assert (job["state"], job["progress"], job["eta_seconds"], job["error"]) == ("succeeded", 1.0, 0.0, None)
    assert job["trials"] == counts(pruned=0, total=2, succeeded=1, failed=1)
    assert job["fits"] == counts(total=7, succeeded=6, failed=1)
    assert MOMENT.fullmatch(job["ended_at"])


def test_a_job_fails_when_no_trial_has_succeeded(client: TestClient, engine: Engine) -> None:
    job_id = post(client, grid(2))["id"]
    drive(engine, job_id, lambda _: None)
    job = client.get(f"/v1/jobs/{job_id}").json()
    assert (job["state"], job["best"], job["progress"]) == ("failed", None, 1.0)
    assert set(job["error"]) == {"type", "message", "traceback"}
    assert "the loss is not a number" in job["error"]["message"]


def test_a_job_with_a_failed_refit_fails_and_keeps_its_best(client: TestClient, engine: Engine) -> None:
    job_id = post(client, grid(1))["id"]
    drive(engine, job_id, scores({0: [0.5, 0.5, 0.5]}, refit=None))
    job = client.get(f"/v1/jobs/{job_id}").json()
    assert (job["state"], job["error"]["type"], job["best"]["trial"]) == ("failed", "ValueError", 0)


def test_a_queued_job_is_cancelled_at_once_and_cancelling_is_idempotent(client: TestClient) -> None:
    path = f"/v1/jobs/{post(client, grid(2))['id']}"
    response = client.post(f"{path}/cancel")
    assert response.status_code == 202
    assert response.json()["state"] == "cancelled"
    assert response.json()["trials"] == counts(pruned=0, total=2, cancelled=2)
    assert "Retry-After" not in response.headers
    again = client.post(f"{path}/cancel")
    assert (again.status_code, again.json()) == (202, response.json())
    assert again.headers["ETag"] == response.headers["ETag"] == client.get(path).headers["ETag"]


def test_a_running_job_is_cancelling_until_its_last_fit_has_stopped(client: TestClient, engine: Engine) -> None:
    job_id = post(client, grid(2))["id"]
    claimed = claim(engine, job_id)
    assert claimed
    response = client.post(f"/v1/jobs/{job_id}/cancel")
    assert (response.status_code, response.json()["state"]) == (202, "cancelling")
    assert response.headers["Retry-After"]
    assert client.post(f"/v1/jobs/{job_id}/cancel").json() == response.json()
    assert client.delete(f"/v1/jobs/{job_id}").status_code == 409
    with writing(engine) as session:
        assert outcomes.record(session, claimed, Cancelled())
    job = client.get(f"/v1/jobs/{job_id}").json()
    assert (job["state"], job["fits"]) == ("cancelled", counts(total=7, cancelled=7))
    assert MOMENT.fullmatch(job["ended_at"])


@pytest.mark.parametrize("accuracy", [0.5, None])
def test_succeeded_and_failed_jobs_cannot_be_cancelled(
    sqlite_client: TestClient, sqlite_engine: Engine, accuracy: float | None
) -> None:
    job_id = post(sqlite_client, grid(1))["id"]
    drive(sqlite_engine, job_id, lambda _: accuracy)
    response = sqlite_client.post(f"/v1/jobs/{job_id}/cancel")
    assert response.status_code == 409
    assert response.headers["Content-Type"] == "application/problem+json"


def test_an_ended_job_can_be_deleted_with_everything_that_belongs_to_it(client: TestClient, engine: Engine) -> None:
    job_id = post(client, grid(2))["id"]
    kept = post(client, grid(1))["id"]
    assert client.delete(f"/v1/jobs/{job_id}").status_code == 409
    drive(engine, job_id, steady)
    response = client.delete(f"/v1/jobs/{job_id}")
    assert (response.status_code, response.content) == (204, b"")
    for more in ("", "/best", "/trials", "/trials/0", "/results"):
        assert client.get(f"/v1/jobs/{job_id}{more}").status_code == 404
    assert client.delete(f"/v1/jobs/{job_id}").status_code == 404
    assert [job["id"] for job in client.get("/v1/jobs").json()["items"]] == [kept]


def test_unknown_resources_get_404(client: TestClient) -> None:
    job_id = post(client, grid(1))["id"]
    missing = f"/v1/jobs/{uuid4()}"
    requests = [("GET", missing + more) for more in ("", "/best", "/trials", "/trials/0", "/results")]
    requests += [("DELETE", missing), ("POST", f"{missing}/cancel"), ("GET", f"/v1/jobs/{job_id}/trials/1")]
    requests += [("GET", f"/v1/jobs/{job_id}/nothing"), ("GET", "/v1/jobs/"), ("GET", "/v2/jobs")]
    for method, path in requests:
        response = client.request(method, path, follow_redirects=False)
        assert (response.status_code, response.headers["Content-Type"]) == (404, "application/problem+json"), path
        assert response.json()["status"] == 404


def test_an_unsupported_method_gets_405_with_the_allowed_ones(sqlite_client: TestClient) -> None:
    for method, path, allowed in (
        ("PUT", "/v1/jobs", "GET, HEAD, POST"),
        ("DELETE", "/v1/jobs", "GET, HEAD, POST"),
        ("PUT", "/v1/jobs/{id}", "DELETE, GET, HEAD, PATCH"),
        ("POST", "/v1/jobs/{id}", "DELETE, GET, HEAD, PATCH"),
        ("GET", "/v1/jobs/{id}/cancel", "POST"),
        ("POST", "/v1/jobs/{id}/best", "GET, HEAD"),
        ("POST", "/readyz", "GET, HEAD"),
        ("POST", "/v1/models", "GET, HEAD"),
        ("POST", "/docs", "GET, HEAD"),
        ("POST", "/openapi.json", "GET, HEAD"),
        ("HEAD", "/v1/jobs/{id}/cancel", "POST"),
        ("TRACE", "/v1/jobs", "GET, HEAD, POST"),
    ):
        response = sqlite_client.request(method, path.format(id=uuid4()))
        assert (response.status_code, response.headers["Allow"]) == (405, allowed), (method, path)
        assert response.headers["Content-Type"] == "application/problem+json"
        assert method == "HEAD" or allowed in response.json()["detail"]


@pytest.mark.parametrize("known", [['"9"', "{tag}"], ["{tag}", '"9"'], ['"8", "9"', 'W/{tag}, "7"'], ["", "*"]])
def test_if_none_match_may_have_several_header_lines(sqlite_client: TestClient, known: list[str]) -> None:
    path = f"/v1/jobs/{post(sqlite_client, grid(1))['id']}"
    tag = sqlite_client.get(path).headers["ETag"]
    lines = [("If-None-Match", line.format(tag=tag)) for line in known]
    assert sqlite_client.get(path, headers=lines).status_code == 304
    assert sqlite_client.get(path, headers=[("If-None-Match", '"9"'), ("If-None-Match", '"8"')]).status_code == 200


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


def test_head_equals_get_without_the_body(client: TestClient, engine: Engine) -> None:
    job_id = post(client, grid(2))["id"]
    drive(engine, job_id, steady)
    for path in (*(f"/v1/jobs/{job_id}{what}" for what in OF_A_JOB), *OF_ALL, "/v1/nothing"):
        get, head = (client.request(method, path) for method in ("GET", "HEAD"))
        assert (head.status_code, dict(head.headers)) == (get.status_code, dict(get.headers)), path
        assert get.content and not head.content


def test_location_includes_the_root_path(engine: Engine) -> None:
    with TestClient(create_app(engine, IdleHousekeeper), root_path="/tunewell") as client:
        responses = [client.post("/v1/jobs", json=grid(1), headers={"Idempotency-Key": "a"}) for _ in range(2)]
        job_id = responses[0].json()["id"]
        assert [response.headers["Location"] for response in responses] == [f"/tunewell/v1/jobs/{job_id}"] * 2
        assert client.get(responses[0].headers["Location"]).json() == responses[0].json()
        docs = client.get("/tunewell/docs").text
        assert "'/tunewell/openapi.json'" in docs
        for path in re.findall(r'(?:src|href)="([^"]+)"', docs):
            assert path.startswith("/tunewell/") and client.get(path).status_code == 200
        assert client.get("/tunewell/openapi.json").json()["servers"] == [{"url": "/tunewell"}]
        assert client.put("/tunewell/v1/jobs").headers["Allow"] == "GET, HEAD, POST"
