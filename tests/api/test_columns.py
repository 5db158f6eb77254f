"""A job's trials and attempts as columns over REST."""

from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from tests.support.driving import claim, drive, grid, post, scores, steady


def get(client: TestClient, path: str, **headers: str) -> dict[str, Any]:
    response = client.get(f"/v1/jobs/{path}", headers=headers)
    assert response.status_code == 200, response.text
    columns: dict[str, Any] = response.json()
    return columns


def test_the_table_says_what_the_trials_say(client: TestClient, engine: Engine) -> None:
    job_id = post(client, grid(4))["id"]
    drive(engine, job_id, scores({0: [0.5, 0.5, 0.5], 1: [0.6, 0.7, 0.8], 2: [0.9, None, 0.9], 3: [0.8, 0.7, 0.6]}))
    columns = get(client, f"{job_id}/table")
    trials = client.get(f"/v1/jobs/{job_id}/trials").json()["items"]
    for name in columns.keys() - {"version", "params"}:
        assert columns[name] == [trial[name] for trial in trials], name
    assert columns["params"] == {"learning_rate": [trial["params"]["learning_rate"] for trial in trials]}
    assert columns["state"] == ["succeeded", "succeeded", "failed", "succeeded"]


def test_changes_since_a_version_and_nothing_else(client: TestClient, engine: Engine) -> None:
    job_id = post(client, grid(3))["id"]
    for path, name in (("table", "number"), ("fits", "trial")):
        version = get(client, f"{job_id}/{path}")["version"]
        assert get(client, f"{job_id}/{path}?since={version}")[name] == []
    drive(engine, job_id, steady, fits=1)
    assert get(client, f"{job_id}/table?since={version}")["number"] == [0]
    assert get(client, f"{job_id}/fits?since={version}")["trial"] == [0]


def test_lost_attempts_and_running_ones_are_on_the_timeline(client: TestClient, engine: Engine) -> None:
    job_id = post(client, grid(1))["id"]
    drive(engine, job_id, lambda one: None, fits=1)
    assert claim(engine, job_id)
    columns = get(client, f"{job_id}/fits")
    assert columns["outcome"] == ["failed", None]
    assert columns["reason"] == ["the loss is not a number", None]
    assert [end is None for end in columns["end"]] == [False, True]


@pytest.mark.parametrize("path", ["table", "fits"])
def test_an_unchanged_job_is_a_304(client: TestClient, engine: Engine, path: str) -> None:
    job_id = post(client, grid(1))["id"]
    response = client.get(f"/v1/jobs/{job_id}/{path}")
    tag = {"If-None-Match": response.headers["ETag"]}
    assert response.headers["ETag"] == client.get(f"/v1/jobs/{job_id}").headers["ETag"]
    unchanged = client.get(f"/v1/jobs/{job_id}/{path}", headers=tag)
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    drive(engine, job_id, steady, fits=1)
    assert client.get(f"/v1/jobs/{job_id}/{path}", headers=tag).status_code == 200


@pytest.mark.parametrize("since", ["-1", "x", "1.5", ""])
def test_a_since_that_is_no_version_is_rejected(client: TestClient, since: str) -> None:
    job_id = post(client, grid(1))["id"]
    response = client.get(f"/v1/jobs/{job_id}/table?since={since}")
    assert response.status_code == 422
    assert response.json()["errors"][0]["pointer"] == "/since"


def test_large_responses_are_compressed_for_who_can_read_it(sqlite_client: TestClient) -> None:
    rates = [number / 1000 for number in range(1, 41)]
    searched = {"strategy": "grid", "param_grid": {"l1": rates, "l2": rates}}
    job_id = post(sqlite_client, {"dataset": {"name": "digits"}, "search": searched})["id"]
    path = f"/v1/jobs/{job_id}/table"
    plain = sqlite_client.get(path, headers={"Accept-Encoding": "identity"})
    packed = sqlite_client.get(path, headers={"Accept-Encoding": "gzip"})
    assert "Content-Encoding" not in plain.headers and packed.headers["Content-Encoding"] == "gzip"
    assert packed.json() == plain.json() and len(plain.json()["number"]) == 1600
    assert int(packed.headers["Content-Length"]) < len(plain.content) / 4
    assert plain.headers["Vary"] == packed.headers["Vary"] == "Accept-Encoding"
    head = sqlite_client.head(path, headers={"Accept-Encoding": "gzip"})
    assert (head.content, head.headers["Content-Length"]) == (b"", packed.headers["Content-Length"])
    small = sqlite_client.get(f"/v1/jobs/{job_id}", headers={"Accept-Encoding": "gzip"})
    assert "Content-Encoding" not in small.headers
