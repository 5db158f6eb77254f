"""A job's name, labels and note over REST: changed by those who know what others have changed."""

from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from tests.support.driving import drive, grid, post, steady


def edit(client: TestClient, job_id: str, changes: Any, tag: str | None = "*") -> Any:
    return client.patch(f"/v1/jobs/{job_id}", json=changes, headers={"If-Match": tag} if tag else {})


def test_what_is_given_is_changed_and_the_rest_stays(client: TestClient) -> None:
    before = post(client, grid(1, name="first", labels={"team": "vision"}))
    path = f"/v1/jobs/{before['id']}"
    tag = client.get(path).headers["ETag"]
    note = "<b>why</b>\n100% of 'it' — ✓"
    response = edit(client, before["id"], {"note": note}, tag)
    assert (response.status_code, response.json()) == (200, before | {"note": note})
    assert response.headers["ETag"] != tag
    response = edit(client, before["id"], {"name": None, "labels": {"team": "audio", "to": "do"}})
    changed = before | {"note": note, "name": None, "labels": {"team": "audio", "to": "do"}}
    assert response.json() == client.get(path).json() == changed
    assert edit(client, before["id"], {"labels": {}, "note": ""}).json() == before | {"name": None, "labels": {}}


def test_who_was_overtaken_by_another_gets_412(client: TestClient) -> None:
    job_id = post(client, grid(1))["id"]
    tag = client.get(f"/v1/jobs/{job_id}").headers["ETag"]
    assert edit(client, job_id, {"note": "mine"}, tag).status_code == 200
    late = edit(client, job_id, {"note": "yours"}, tag)
    assert (late.status_code, late.headers["Content-Type"]) == (412, "application/problem+json")
    assert "read the job again" in late.json()["detail"]
    assert client.get(f"/v1/jobs/{job_id}").json()["note"] == "mine"
    assert edit(client, job_id, {"note": "yours"}, late.headers["ETag"]).json()["note"] == "yours"
    assert edit(
        client, job_id, {"note": "ours"}, f'"77", W/{client.get(f"/v1/jobs/{job_id}").headers["ETag"]}'
    ).is_success


def test_training_overtakes_nobody(client: TestClient, engine: Engine) -> None:
    job_id = post(client, grid(2))["id"]
    tag = client.get(f"/v1/jobs/{job_id}").headers["ETag"]
    drive(engine, job_id, steady)
    ended = client.get(f"/v1/jobs/{job_id}").json()
    assert edit(client, job_id, {"note": "done"}, tag).json() == ended | {"note": "done"}


@pytest.mark.parametrize("tag", ['"99"', "99", '"x"', "", '"²"', '"-1"'])
def test_a_tag_that_the_job_never_had_is_a_412(client: TestClient, tag: str) -> None:
    job_id = post(client, grid(1))["id"]
    response = client.patch(f"/v1/jobs/{job_id}", json={"note": "x"}, headers={b"If-Match": tag.encode()})
    assert response.status_code == 412


def test_without_if_match_it_is_a_428(client: TestClient) -> None:
    job_id = post(client, grid(1))["id"]
    response = edit(client, job_id, {"note": "x"}, None)
    assert (response.status_code, response.headers["Content-Type"]) == (428, "application/problem+json")
    assert "If-Match" in response.json()["detail"]


def test_an_edit_that_changes_nothing_is_no_change(client: TestClient) -> None:
    job_id = post(client, grid(1, name="first"))["id"]
    tag = client.get(f"/v1/jobs/{job_id}").headers["ETag"]
    assert edit(client, job_id, {"name": "first", "note": ""}, tag).headers["ETag"] == tag


@pytest.mark.parametrize(
    ("changes", "pointer", "message"),
    [
        ({"note": "x" * 4097}, "/note", "4096"),
        ({"note": None}, "/note", "string"),
        ({"note": "a\0b"}, "/note", "pattern"),
        ({"name": "-x"}, "/name", "pattern"),
        ({"labels": {"a": 1}}, "/labels/a", "string"),
        ({"labels": None}, "/labels", "dictionary"),
        ({"labels": {f"k{n}": "v" for n in range(17)}}, "/labels", "16"),
        ({"state": "paused"}, "/state", "expected one of name, labels, note"),
        ({}, "", "give name, labels or note"),
        ([], "", "JSON object"),
    ],
)
def test_an_invalid_edit_says_what_would_be_right(
    sqlite_client: TestClient, changes: Any, pointer: str, message: str
) -> None:
    job_id = post(sqlite_client, grid(1))["id"]
    response = edit(sqlite_client, job_id, changes)
    assert response.status_code == 422
    [error] = response.json()["errors"]
    assert error["pointer"] == pointer and message in error["message"]


def test_unknown_jobs_and_foreign_pages_are_rejected(sqlite_client: TestClient) -> None:
    job_id = post(sqlite_client, grid(1))["id"]
    foreign = {"If-Match": "*", "Sec-Fetch-Site": "cross-site"}
    assert sqlite_client.patch(f"/v1/jobs/{job_id}", json={"note": "x"}, headers=foreign).status_code == 403
    assert edit(sqlite_client, "7d1c9b6e-6f0a-4c39-9d0e-0d6c3a1f2b11", {"note": "x"}).status_code == 404
