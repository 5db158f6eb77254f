"""The list of jobs by name, label and text."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.support.driving import grid, post

NOTES = ["the 100% run", "a_b", "ünïcode \\ 'quoted' \"text\""]


def names(client: TestClient, **query: str | int) -> list[str]:
    response = client.get("/v1/jobs", params=query)
    assert response.status_code == 200, response.text
    return [one["name"] for one in response.json()["items"]]


@pytest.fixture
def posted(client: TestClient) -> dict[str, Any]:
    """Four jobs, by name."""
    jobs = {
        "seed-grid": post(client, grid(1, name="seed-grid", labels={"team": "vision", "to": "do"})),
        "seed-random": post(client, grid(1, name="seed-random", labels={"team": "audio"})),
        "Digits": post(client, grid(1, name="Digits", labels={"vision": "team"})),
        "last": post(client, grid(1, name="last")),
    }
    for name, note in zip(jobs, NOTES, strict=False):
        client.patch(f"/v1/jobs/{jobs[name]['id']}", json={"note": note}, headers={"If-Match": "*"})
    return jobs


def test_names_and_labels_are_whole(client: TestClient, posted: dict[str, Any]) -> None:
    assert names(client, name="seed-grid") == ["seed-grid"]
    assert names(client, name="seed") == []
    assert names(client, label="team:vision") == ["seed-grid"]
    assert names(client, label="team:vis") == names(client, label="vision:vision") == []
    assert names(client, label="team:vision", name="last") == []


def test_text_is_found_in_names_labels_and_notes_in_any_case(client: TestClient, posted: dict[str, Any]) -> None:
    assert names(client, q="SEED") == ["seed-random", "seed-grid"]
    assert names(client, q="vision") == ["Digits", "seed-grid"]
    assert names(client, q="digits") == ["Digits"]
    assert names(client, q="100%") == ["seed-grid"]
    assert names(client, q="%") == ["seed-grid"]
    assert names(client, q="a_b") == ["seed-random"], "an underscore is no wildcard"
    assert names(client, q="\\ 'quoted' \"text\"") == ["Digits"]
    assert names(client, q='"') == ["Digits"], "the marks of the labels' JSON are not text"
    assert names(client, q="") == ["last", "Digits", "seed-random", "seed-grid"]


def test_a_job_is_found_by_the_beginning_of_its_id(client: TestClient, posted: dict[str, Any]) -> None:
    job_id = posted["last"]["id"]
    for text in (job_id, job_id[:8], job_id[:13].upper(), job_id.replace("-", "")):
        assert names(client, q=text) == ["last"]
    assert names(client, q=job_id[1:]) == []


def test_pages_keep_their_filters(client: TestClient, posted: dict[str, Any]) -> None:
    first = client.get("/v1/jobs", params={"q": "seed", "page_size": 1}).json()
    token = first["next_page_token"]
    assert names(client, q="seed", page_size=1, page_token=token) == ["seed-grid"]
    for other in ({}, {"q": "seeds"}, {"q": "seed", "label": "team:audio"}):
        assert client.get("/v1/jobs", params={**other, "page_token": token}).status_code == 422


@pytest.mark.parametrize("query", [{"name": "-"}, {"label": "team"}, {"label": ":"}, {"q": "\0"}, {"q": "x" * 201}])
def test_filters_that_can_match_nothing_are_rejected(sqlite_client: TestClient, query: dict[str, str]) -> None:
    response = sqlite_client.get("/v1/jobs", params=query)
    assert response.status_code == 422
    assert [error["pointer"] for error in response.json()["errors"]] == [f"/{name}" for name in query]
