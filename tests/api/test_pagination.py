"""Pagination: pages, their tokens, and invalid tokens."""

import base64
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, update

from app.tuning.database import writing
from app.tuning.jobs.tables import Job, Trial
from tests.support.driving import Folds, drive, grid, post, scores

MOMENT = datetime(2100, 1, 1, tzinfo=UTC)


def walk(client: TestClient, path: str, query: dict[str, Any]) -> list[dict[str, Any]]:
    """All items, page by page."""
    items: list[dict[str, Any]] = []
    token = None
    while True:
        response = client.get(path, params=query | ({"page_token": token} if token else {}))
        assert response.status_code == 200, response.text
        page = response.json()
        assert set(page) == {"items", "next_page_token"}
        assert len(page["items"]) <= query["page_size"]
        items += page["items"]
        token = page["next_page_token"]
        if token is None:
            return items
        assert len(page["items"]) == query["page_size"]


@pytest.mark.parametrize("page_size", [1, 3, 7])
def test_pages_contain_all_jobs_newest_first_even_with_equal_times(
    client: TestClient, engine: Engine, page_size: int
) -> None:
    posted = [post(client, grid(1))["id"] for _ in range(7)]
    with writing(engine) as session:
        session.execute(update(Job).where(Job.id.in_(map(UUID, posted[2:6]))).values(created_at=MOMENT))
    found = walk(client, "/v1/jobs", {"page_size": page_size})
    assert sorted(job["id"] for job in found) == sorted(posted)
    moments = [datetime.fromisoformat(job["created_at"]) for job in found]
    assert moments == sorted(moments, reverse=True)
    assert [job["id"] for job in found[4:]] == [posted[6], posted[1], posted[0]]


def test_an_empty_token_is_the_first_page(client: TestClient) -> None:
    job_id = [post(client, grid(3))["id"] for _ in range(3)][-1]
    for path in ("/v1/jobs?page_size=2", f"/v1/jobs/{job_id}/trials?page_size=2", "/v1/jobs?state=queued"):
        response = client.get(f"{path}&page_token=")
        assert response.status_code == 200
        assert response.json() == client.get(path).json()


def test_jobs_can_be_listed_by_state(client: TestClient) -> None:
    posted = [post(client, grid(1))["id"] for _ in range(4)]
    for job_id in posted[::2]:
        client.post(f"/v1/jobs/{job_id}/cancel")
    for state, expected in (("queued", posted[3::-2]), ("cancelled", posted[2::-2]), ("failed", [])):
        found = walk(client, "/v1/jobs", {"page_size": 1, "state": state})
        assert [job["id"] for job in found] == expected
        assert {job["state"] for job in found} <= {state}


@pytest.mark.slow
@pytest.mark.parametrize("sort", ["number", "validation_accuracy", "-validation_accuracy"])
@pytest.mark.parametrize("page_size", [1, 2, 9])
def test_pages_contain_every_trial_once_despite_ties(
    client: TestClient, engine: Engine, sort: str, page_size: int
) -> None:
    job_id = post(client, grid(9))["id"]
    # Means without an exact float, ties among them, a failed trial, and two untrained ones.
    third, sixth = [0.1, 0.2, 0.7 / 3], [0.7 / 3, 0.2, 0.1]
    folds: Folds = {0: third, 1: [0.9] * 3, 2: sixth, 3: [None] * 3, 4: third, 5: [0.1] * 3, 6: [0.9] * 3}
    drive(engine, job_id, scores(folds), fits=21)
    path = f"/v1/jobs/{job_id}/trials"
    found = walk(client, path, {"page_size": page_size, "sort": sort})
    whole = walk(client, path, {"page_size": 100, "sort": sort})
    assert found == whole
    assert sorted(trial["number"] for trial in found) == list(range(9))
    if sort != "number":
        assert [trial["number"] for trial in found[-3:]] == [3, 7, 8]
        ranks = [trial["rank"] for trial in found[:-3]]
        assert ranks == sorted(ranks, reverse=sort == "validation_accuracy")
    succeeded = walk(client, path, {"page_size": page_size, "sort": sort, "state": "succeeded"})
    assert succeeded == [trial for trial in found if trial["state"] == "succeeded"]


def test_a_page_has_20_items_by_default_and_at_most_100(sqlite_client: TestClient, sqlite_engine: Engine) -> None:
    job_id = post(sqlite_client, grid(120))["id"]
    for query, expected in (
        ("", 20),
        ("?page_size=99", 99),
        ("?page_size=101", 100),
        ("?page_size=" + "9" * 5000, 100),
    ):
        page = sqlite_client.get(f"/v1/jobs/{job_id}/trials{query}").json()
        assert len(page["items"]) == expected


def test_the_last_page_has_no_token(sqlite_client: TestClient) -> None:
    job_id = post(sqlite_client, grid(20))["id"]
    assert sqlite_client.get(f"/v1/jobs/{job_id}/trials").json()["next_page_token"] is None
    assert sqlite_client.get("/v1/jobs?state=failed").json() == {"items": [], "next_page_token": None}


@pytest.mark.parametrize(
    "page_size", ["0", "-1", "-" + "9" * 5000, "1.0", "1e1", "+5", " 5", "5_0", "", "ten", "٣", "%00"]
)
def test_invalid_page_sizes_are_rejected(sqlite_client: TestClient, page_size: str) -> None:
    response = sqlite_client.get("/v1/jobs", params={"page_size": page_size})
    assert response.status_code == 422
    assert [error["pointer"] for error in response.json()["errors"]] == ["/page_size"]


def test_a_token_is_valid_for_its_own_list_only(sqlite_client: TestClient) -> None:
    first, second = (post(sqlite_client, grid(3))["id"] for _ in range(2))
    lists = ["/v1/jobs?page_size=1", "/v1/jobs?page_size=1&state=queued"]
    for query in ("", "&state=queued", "&sort=validation_accuracy", "&sort=-validation_accuracy"):
        lists += [f"/v1/jobs/{job_id}/trials?page_size=1{query}" for job_id in (first, second)]
    tokens = [sqlite_client.get(path).json()["next_page_token"] for path in lists]
    for own, path in enumerate(lists):
        for number, token in enumerate(tokens):
            status = sqlite_client.get(f"{path}&page_token={token}").status_code
            assert status == (200 if number == own else 422)


PLACES = [
    b"null",
    b"[]",
    b"{}",
    b"[" * 300,
    b'["jobs None"]',
    b'["jobs None",null]',
    b'["jobs None",["2026-11-01T10:00:00Z","7d1c9b6e"]]',
    b'["jobs None",["2026-11-01T10:00:00","7d1c9b6e-6f0a-4c39-9d0e-0d6c3a1f2b11"]]',
    b'["jobs None",["0001-01-01T00:00:00+14:00","7d1c9b6e-6f0a-4c39-9d0e-0d6c3a1f2b11"]]',
    b'["jobs None",["9999-12-31T23:59:59-14:00","7d1c9b6e-6f0a-4c39-9d0e-0d6c3a1f2b11"]]',
    b'["jobs None",[1' + b"0" * 320 + b',"7d1c9b6e-6f0a-4c39-9d0e-0d6c3a1f2b11"]]',
    b'["LIST",["0.5",1]]',
    b'["LIST",[true,1]]',
    b'["LIST",[NaN,1]]',
    b'["LIST",[1e999,1]]',
    b'["LIST",[1' + b"0" * 320 + b",1]]",
    b'["LIST",[0.5,-1]]',
    b'["LIST",[0.5,1.5]]',
    b'["LIST",[0.5,true]]',
    b'["LIST",[0.5,2147483648]]',
    b'["LIST",[0.5,"\\ud800"]]',
    b'["LIST",[0.5,1,1]]',
    b"\xff\xfe\x00",
]


@pytest.mark.parametrize("token", ["!", "a", "ä", "\ud7ff", "x" * 500, "x" * 10_000, "%00", *PLACES])
def test_invalid_tokens_are_rejected(sqlite_client: TestClient, token: str | bytes) -> None:
    job_id = post(sqlite_client, grid(1))["id"]
    if isinstance(token, bytes):
        forged = token.replace(b"LIST", f"{job_id} None validation_accuracy".encode())
        token = base64.urlsafe_b64encode(forged).decode().rstrip("=")
    for path in ("/v1/jobs", f"/v1/jobs/{job_id}/trials"):
        query = {"page_token": token} | ({"sort": "validation_accuracy"} if "trials" in path else {})
        response = sqlite_client.get(path, params=query)
        assert response.status_code == 422, response.text
        assert [error["pointer"] for error in response.json()["errors"]] == ["/page_token"]


def test_a_difference_in_the_last_digit_decides_the_order(client: TestClient, engine: Engine) -> None:
    job_id = post(client, grid(4))["id"]
    near = [0.1, 0.1 + 2**-56, 0.3, 0.1 + 0.2]
    with writing(engine) as session:
        for number, accuracy in enumerate(near):
            session.execute(update(Trial).where(Trial.number == number).values(validation_accuracy=accuracy))
    found = walk(client, f"/v1/jobs/{job_id}/trials", {"page_size": 1, "sort": "-validation_accuracy"})
    assert [trial["validation_accuracy"] for trial in found] == sorted(near, reverse=True)
    assert len(set(near)) == 4
