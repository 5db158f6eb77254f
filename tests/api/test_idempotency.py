"""`Idempotency-Key`: a POST that is repeated makes one job."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from fastapi.testclient import TestClient
from httpx2 import Response
from sqlalchemy import Engine

from tests.support.driving import Spec, drive, grid, steady
from tests.support.refusing import problem

SPEC = grid(2, name="once")
SAME: Spec = {"name": "once", "fixed": {}, "random_state": 0, **grid(2), "model": "cnn"}


def post(client: TestClient, spec: Spec, key: str) -> Response:
    return client.post("/v1/jobs", json=spec, headers={"Idempotency-Key": key})


def jobs(client: TestClient) -> list[str]:
    return [job["id"] for job in client.get("/v1/jobs?page_size=100").json()["items"]]


def test_a_repeated_post_is_answered_as_the_first_one_was(client: TestClient, engine: Engine) -> None:
    first = post(client, SPEC, "a-key")
    again = post(client, SPEC, "a-key")
    drive(engine, first.json()["id"], steady)
    late = post(client, SAME, "a-key")
    for answer in (again, late):
        assert (answer.status_code, answer.content) == (202, first.content)
        assert {**answer.headers} == {**first.headers}
    assert jobs(client) == [first.json()["id"]]
    house = client.app.state.housekeeper  # type: ignore[attr-defined]
    assert house.nudges == 1


def test_a_key_that_comes_with_another_body_is_refused(client: TestClient) -> None:
    post(client, SPEC, "a-key")
    errors = problem(post(client, SPEC | {"random_state": 1}, "a-key"), 422)["errors"]
    assert [error["pointer"] for error in errors] == ["/Idempotency-Key"]
    assert len(jobs(client)) == 1


def test_other_keys_and_none_make_other_jobs(client: TestClient) -> None:
    made = [post(client, SPEC, key).json()["id"] for key in ("a", "b", "A")]
    made += [client.post("/v1/jobs", json=SPEC).json()["id"] for _ in range(2)]
    assert sorted(jobs(client)) == sorted(made)


def test_a_key_is_free_again_when_its_post_was_refused(client: TestClient) -> None:
    problem(post(client, SPEC | {"model": "none"}, "a-key"), 422)
    assert post(client, SPEC, "a-key").status_code == 202


def test_the_answer_is_remembered_when_the_job_is_gone(client: TestClient) -> None:
    first = post(client, SPEC, "a-key")
    client.post(f"{first.headers['Location']}/cancel")
    assert client.delete(first.headers["Location"]).status_code == 204
    assert post(client, SPEC, "a-key").content == first.content
    assert jobs(client) == []


def test_posts_with_one_key_at_the_same_moment_make_one_job(client: TestClient) -> None:
    barrier = Barrier(8)

    def together(_: int) -> Response:
        barrier.wait()
        return post(client, SPEC, "a-key")

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(together, range(8)))
    assert {answer.status_code for answer in answers} == {202}
    assert {answer.content for answer in answers} == {answers[0].content}
    assert jobs(client) == [answers[0].json()["id"]]


@pytest.mark.parametrize("key", ["", " ", "a b", "\t", "ü", "\x7f", "a" * 256, "\xa0"])
def test_a_key_with_odd_characters_is_refused(client: TestClient, key: str) -> None:
    headers = {b"Idempotency-Key": key.encode("latin-1")}
    errors = problem(client.post("/v1/jobs", json=SPEC, headers=headers), 422)["errors"]
    assert [error["pointer"] for error in errors] == ["/Idempotency-Key"]
    assert jobs(client) == []


@pytest.mark.parametrize("key", ["!", "~", '"quoted"', "';DROP/**/TABLE/**/jobs;--", "a" * 255, "%00", "\\"])
def test_a_key_may_be_any_visible_ascii(client: TestClient, key: str) -> None:
    assert post(client, SPEC, key).content == post(client, SPEC, key).content
