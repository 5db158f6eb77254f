"""Pausing, resuming and retrying jobs through the API."""

from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from tests.support.driving import Folds, Spec, claim, drive, grid, post, record, scores, steady
from tests.support.ledger import Ledger

TWO: Folds = {0: [0.5, 0.5, 0.5], 1: [0.6, None, 0.6]}


def ask(client: TestClient, job_id: str, verb: str, status: int = 202) -> dict[str, Any]:
    response = client.post(f"/v1/jobs/{job_id}/{verb}")
    assert response.status_code == status, response.text
    body: dict[str, Any] = response.json()
    return body


def table(client: TestClient, job_id: str) -> dict[str, Any]:
    found: dict[str, Any] = client.get(f"/v1/jobs/{job_id}/results").json()
    return found


def test_nothing_of_a_paused_job_is_claimed_until_it_is_resumed(client: TestClient, engine: Engine) -> None:
    job_id = post(client, grid(2))["id"]
    drive(engine, job_id, steady, fits=2)
    held = claim(engine, job_id)
    assert held
    assert ask(client, job_id, "pause")["state"] == "paused"
    assert ask(client, job_id, "pause")["state"] == "paused"
    assert claim(engine, job_id) is None
    record(engine, held, 0.5)
    assert client.get(f"/v1/jobs/{job_id}").json()["state"] == "paused"
    assert [job["id"] for job in client.get("/v1/jobs?state=paused").json()["items"]] == [job_id]
    assert ask(client, job_id, "resume")["state"] == "running"
    assert ask(client, job_id, "resume")["state"] == "running"
    drive(engine, job_id, steady)
    assert client.get(f"/v1/jobs/{job_id}").json()["state"] == "succeeded"
    Ledger(engine).audit()


def test_a_queued_job_is_queued_again_and_workers_are_notified(sqlite_client: TestClient) -> None:
    house = sqlite_client.app.state.housekeeper  # type: ignore[attr-defined]
    job_id = post(sqlite_client, grid(1))["id"]
    ask(sqlite_client, job_id, "pause")
    assert house.nudges == 1
    assert ask(sqlite_client, job_id, "resume")["state"] == "queued"
    assert house.nudges == 2


def test_a_paused_job_can_be_cancelled_and_not_deleted(client: TestClient) -> None:
    job_id = post(client, grid(1))["id"]
    ask(client, job_id, "pause")
    assert client.delete(f"/v1/jobs/{job_id}").status_code == 409
    assert ask(client, job_id, "cancel")["state"] == "cancelled"


@pytest.mark.parametrize("verb", ["pause", "resume", "retry"])
def test_an_ended_job_is_a_conflict(client: TestClient, engine: Engine, verb: str) -> None:
    succeeded, cancelled = (post(client, grid(1))["id"] for _ in range(2))
    drive(engine, succeeded, steady)
    ask(client, cancelled, "cancel")
    for job_id in (succeeded, cancelled):
        before = client.get(f"/v1/jobs/{job_id}").json()
        assert ask(client, job_id, verb, 409)["detail"]
        assert client.get(f"/v1/jobs/{job_id}").json() == before


@pytest.mark.parametrize("verb", ["pause", "resume", "retry"])
def test_a_missing_job_is_not_found(sqlite_client: TestClient, verb: str) -> None:
    missing = ask(sqlite_client, "7d1c9b6e-6f0a-4c39-9d0e-0d6c3a1f2b11", verb, 404)
    assert missing["detail"] == "No such job."


def test_only_failed_fits_are_trained_again_and_another_trial_may_win(client: TestClient, engine: Engine) -> None:
    job_id, clean = (post(client, grid(2))["id"] for _ in range(2))
    drive(engine, job_id, scores(TWO))
    drive(engine, clean, scores({**TWO, 1: [0.6, 0.7, 0.6]}, refit=0.8))
    before = client.get(f"/v1/jobs/{job_id}").json()
    assert (before["state"], before["trials"]["failed"]) == ("succeeded", 1)
    job = ask(client, job_id, "retry")
    assert (job["state"], job["fits"]["queued"], job["trials"]["failed"], job["ended_at"]) == ("running", 2, 0, None)
    assert client.get(f"/v1/jobs/{job_id}/best").json()["final"] is False
    claimed = claim(engine, job_id)
    assert claimed and (claimed.trial_number, claimed.fold, claimed.attempt) == (1, 1, 2)
    record(engine, claimed, 0.7)
    drive(engine, job_id, lambda _: 0.8)
    assert table(client, job_id) == table(client, clean)
    best = client.get(f"/v1/jobs/{job_id}/best").json()
    assert (best["final"], best["trial"], best["test"]["accuracy"]) == (True, 1, 0.8)
    Ledger(engine).audit()


def test_a_failed_refit_is_trained_again(client: TestClient, engine: Engine) -> None:
    job_id = post(client, grid(2))["id"]
    drive(engine, job_id, scores({0: [0.5] * 3, 1: [0.6] * 3}, refit=None))
    assert client.get(f"/v1/jobs/{job_id}").json()["state"] == "failed"
    ask(client, job_id, "retry")
    drive(engine, job_id, lambda _: 0.8)
    job = client.get(f"/v1/jobs/{job_id}").json()
    assert (job["state"], job["error"]) == ("succeeded", None)
    Ledger(engine).audit()


def test_a_job_with_too_many_failures_goes_on_with_what_failed(client: TestClient, engine: Engine) -> None:
    job_id = post(client, grid(3, limits={"max_failed_trials": 0}))["id"]
    drive(engine, job_id, lambda _: None)
    assert client.get(f"/v1/jobs/{job_id}").json()["state"] == "failed"
    ask(client, job_id, "retry")
    drive(engine, job_id, lambda _: 0.8)
    job = client.get(f"/v1/jobs/{job_id}").json()
    assert (job["state"], job["trials"]["succeeded"], job["trials"]["cancelled"]) == ("succeeded", 1, 2)
    Ledger(engine).audit()


PROPOSED = {"strategy": "tpe", "param_distributions": {"num_neurons": [8, 16]}, "n_iter": 2, "n_startup_trials": 2}


@pytest.mark.parametrize("changes", [{"evaluation": {"cv": 3, "race": {"method": "lossless"}}}, {"search": PROPOSED}])
def test_a_search_that_has_gone_on_is_not_retried(changes: Spec, client: TestClient, engine: Engine) -> None:
    job_id = post(client, grid(2, **changes))["id"]
    drive(engine, job_id, scores(TWO))
    assert "post the job again" in ask(client, job_id, "retry", 409)["detail"]
