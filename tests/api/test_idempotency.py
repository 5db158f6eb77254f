"""`Idempotency-Key`: a repeated POST creates one job."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from fastapi.testclient import TestClient
from httpx2 import Response
from sqlalchemy import Engine

from tests.support.driving import Spec, drive, grid, steady
from tests.support.rejecting import problem

SPEC = grid(2, name="once")
SAME: Spec = {"name": "once", "fixed": {}, "random_state": 0, **grid(2), "model": "cnn"}


def post(client: TestClient, spec: Spec, key: str) -> Response:
    return client.post("/v1/jobs", json=spec, headers={"Idempotency-Key": key})


def jobs(client: TestClient) -> list[str]:
    return [job["id"] for job in client.get("/v1/jobs?page_size=100").json()["items"]]


def test_a_repeated_post_gets_the_first_response(client: TestClient, engine: Engine) -> None:
    first = post(client, SPEC, "a-key")
    again = post(client, SPEC, "a-key")
    drive(engine, first.json()["id"], steady)
    late = post(client, SAME, "a-key")
    for response in (again, late):
        assert (response.status_code, response.content) == (202, first.content)
        assert {**response.headers} == {**first.headers}
    assert jobs(client) == [first.json()["id"]]
    house = client.app.state.housekeeper  # type: ignore[attr-defined]
    assert house.nudges == 1


def test_a_key_reused_with_a_different_body_is_rejected(client: TestClient) -> None:
    post(client, SPEC, "a-key")
    errors = problem(post(client, SPEC | {"random_state": 1}, "a-key"), 422)["errors"]
    assert [error["pointer"] for error in errors] == ["/Idempotency-Key"]
    assert len(jobs(client)) == 1


def test_other_keys_and_missing_keys_create_other_jobs(client: TestClient) -> None:
    made = [post(client, SPEC, key).json()["id"] for key in ("a", "b", "A")]
    made += [client.post("/v1/jobs", json=SPEC).json()["id"] for _ in range(2)]
    assert sorted(jobs(client)) == sorted(made)


def test_a_rejected_post_does_not_use_up_its_key(client: TestClient) -> None:
    problem(post(client, SPEC | {"model": "none"}, "a-key"), 422)
    assert post(client, SPEC, "a-key").status_code == 202


def test_the_response_is_replayed_after_the_job_is_deleted(client: TestClient) -> None:
    first = post(client, SPEC, "a-key")
    client.post(f"{first.headers['Location']}/cancel")
    assert client.delete(first.headers["Location"]).status_code == 204
    assert post(client, SPEC, "a-key").content == first.content
    assert jobs(client) == []


def test_concurrent_posts_with_one_key_create_one_job(client: TestClient) -> None:
    barrier = Barrier(8)

    def together(_: int) -> Response:
        barrier.wait()
        return post(client, SPEC, "a-key")

    with ThreadPoolExecutor(8) as threads:
        responses = list(threads.map(together, range(8)))
    assert {response.status_code for response in responses} == {202}
    assert {response.content for response in responses} == {responses[0].content}
    assert jobs(client) == [responses[0].json()["id"]]


@pytest.mark.parametrize("key", ["", " ", "a b", "\t", "ü", "\x7f", "a" * 256, "\xa0"])
def test_invalid_keys_are_rejected(client: TestClient, key: str) -> None:
    headers = {b"Idempotency-Key": key.encode("latin-1")}
    errors = problem(client.post("/v1/jobs", json=SPEC, headers=headers), 422)["errors"]
    assert [error["pointer"] for error in errors] == ["/Idempotency-Key"]
    assert jobs(client) == []


@pytest.mark.parametrize("key", ["!", "~", '"quoted"', "';DROP/**/TABLE/**/jobs;--", "a" * 255, "%00", "\\"])
def test_a_key_may_be_any_printable_ascii(client: TestClient, key: str) -> None:
    assert post(client, SPEC, key).content == post(client, SPEC, key).content
