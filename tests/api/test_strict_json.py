"""Bodies that are not JSON, too large, of another content type, or with values that databases cannot store."""

import json
from collections.abc import Iterator
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient

from tests.support.rejecting import JSON, VALID, pointed, problem, rejected


def grid_of(value: str) -> bytes:
    return b'{"search":{"strategy":"grid","param_grid":{"learning_rate":[0.1,%s]}}}' % value.encode()


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "9" * 5000, "-" + "9" * 5000])
def test_non_finite_and_overlong_numbers_are_rejected(sqlite_client: TestClient, number: str) -> None:
    for body, pointer in (
        (grid_of(number), "/search/param_grid/learning_rate/1"),
        (b'{"search":{"strategy":"grid","param_grid":{}},"random_state":%s}' % number.encode(), "/random_state"),
        (b'{"name":"x","unknown":[{"a":%s}]}' % number.encode(), "/unknown/0/a"),
        (number.encode(), ""),
    ):
        errors = rejected(sqlite_client, body)
        assert [error["pointer"] for error in errors] == [pointer]
        assert "finite" in errors[0]["message"] or "digits" in errors[0]["message"]


@pytest.mark.parametrize(
    "number", ["9" * 400, "1" + "0" * 308, "9007199254740993", "18446744073709551616", "1e308", "-0.0"]
)
def test_large_numbers_are_rejected_as_out_of_bounds(sqlite_client: TestClient, number: str) -> None:
    limits = {"distribution": "DIST", "low": 0, "high": "N"}
    drawn = {"search": {"strategy": "random", "n_iter": "N", "param_distributions": {"l1": limits}}}
    bodies = [json.dumps(drawn).replace("DIST", kind) for kind in ("uniform", "loguniform", "randint")]
    for name in ("epochs", "l1", "optimizer"):
        bodies.append(json.dumps({"search": {"strategy": "grid", "param_grid": {name: ["N"]}}}))
    for field in ({"random_state": "N"}, {"limits": {"fit_timeout_seconds": "N", "max_failed_trials": "N"}}):
        bodies.append(json.dumps(VALID[0] | field))
    for field in ({"dataset": {"train_samples": "N"}}, {"evaluation": {"validation_split": "N"}}):
        bodies.append(json.dumps(VALID[0] | field))
    for body in bodies:
        response = sqlite_client.post("/v1/jobs", content=body.replace('"N"', number), headers=JSON)
        if response.status_code != 202:
            problem(response, 422)


SURROGATES = [
    (b'{"name":"\\ud800"}', "/name"),
    (b'{"name":"a\\udfff"}', "/name"),
    (b'{"labels":{"a":"\\udbff x"}}', "/labels/a"),
    (b'{"labels":{"\\ud800":"a"}}', "/labels"),
    (b'{"\\udc00":1}', ""),
    (b'"\\udc00\\ud800"', ""),
    (b'{"search":{"param_grid":{"optimizer":["adam","\\ud83d"]}}}', "/search/param_grid/optimizer/1"),
]


@pytest.mark.parametrize(("body", "pointer"), SURROGATES)
def test_lone_surrogates_are_rejected(sqlite_client: TestClient, body: bytes, pointer: str) -> None:
    assert [error["pointer"] for error in rejected(sqlite_client, body)] == [pointer]


DUPLICATES = [
    (b'{"name":"a","name":"b"}', "/name"),
    (b'{"name":"a","n\\u0061me":"b"}', "/name"),
    (b'{"search":{"strategy":"grid","strategy":"random"}}', "/search/strategy"),
    (b'{"search":{"param_grid":[{"l1":[0],"l1":[0]}]}}', "/search/param_grid/0/l1"),
    (b'{"labels":{"a":"b","c":"d","a":"b"}}', "/labels/a"),
    (b'[{"a/b~c":{"x":1,"x":{"y":1,"y":2}}}]', "/0/a~1b~0c/x"),
]


@pytest.mark.parametrize(("body", "pointer"), DUPLICATES)
def test_duplicate_keys_are_rejected_at_any_depth(sqlite_client: TestClient, body: bytes, pointer: str) -> None:
    errors = rejected(sqlite_client, body)
    assert [error["pointer"] for error in errors] == [pointer]
    assert "Duplicate" in errors[0]["message"]


NOT_A_JOB = [
    b"",
    b" ",
    b"{",
    b"[]",
    b"[{}]",
    b'"job"',
    b"null",
    b"true",
    b"0",
    b"{}x",
    b"{'a':1}",
    b'{"a":1,}',
    b"\0",
    b"{}\0",
]
NOT_A_JOB += [
    b"\xef\xbb\xbf{}",
    b"\xff\xfe",
    b'{"name":"\xff"}',
    b'{"name":"\xed\xa0\x80"}',
    b'{"name":"\xc0\x80"}',
    b'{"a":"\x01"}',
]
NOT_A_JOB += ["{}".encode(code) for code in ("utf-16", "utf-16-le", "utf-16-be", "utf-32")]
NOT_A_JOB += [b"[" * 60_000, b'{"a":' * 12_000, b"[" * 30_000 + b"]" * 30_000, b'{"a":' * 9_000 + b"1" + b"}" * 9_000]
NOT_A_JOB += [b"[" * 900 + b"]" * 900, b'{"name":' + b"[" * 60 + b"]" * 60 + b"}"]


@pytest.mark.parametrize("body", NOT_A_JOB, ids=lambda body: f"{body[:12]!r}{len(body)}")
def test_bodies_other_than_utf_8_json_objects_are_rejected(sqlite_client: TestClient, body: bytes) -> None:
    assert [error["pointer"] for error in rejected(sqlite_client, body)] == [""]


KINDS = [
    None,
    "",
    "text/plain",
    "text/json",
    "application/xml",
    "application/problem+json",
    "application/jsonx",
    "json",
]
KINDS += ["application/json; charset=utf-16", "application/json; charset=latin-1", "multipart/form-data; boundary=x"]
KINDS += [
    "application/x-www-form-urlencoded",
    "application/json, application/json",
    "*/*",
    "ä/ü",
    ";",
]


@pytest.mark.parametrize("kind", KINDS)
def test_other_content_types_get_415(sqlite_client: TestClient, kind: str | None) -> None:
    headers = {} if kind is None else {b"Content-Type": kind.encode()}
    for body in (json.dumps(VALID[0]).encode(), b"", b"{"):
        document = problem(sqlite_client.post("/v1/jobs", content=body, headers=headers), 415)
        assert "application/json" in document["detail"]


@pytest.mark.parametrize(
    "kind", ["application/json", "Application/JSON; Charset=UTF-8", 'application/json;charset="utf-8"']
)
def test_all_spellings_of_utf_8_json_are_accepted(sqlite_client: TestClient, kind: str) -> None:
    response = sqlite_client.post("/v1/jobs", content=json.dumps(VALID[0]), headers={"Content-Type": kind})
    assert response.status_code == 202


LARGE = [b"[" * 100_000, b"[" + b"1," * 999_999 + b"1]", b" " * 65_537, b'{"name":"' + b"x" * 65_536 + b'"}']


def in_chunks(body: bytes) -> Iterator[bytes]:
    for start in range(0, len(body), 10_000):
        yield body[start : start + 10_000]


@pytest.mark.parametrize("body", LARGE, ids=lambda body: f"{body[:8]!r}{len(body)}")
def test_bodies_over_64_kib_get_413_chunked_or_not(sqlite_client: TestClient, body: bytes) -> None:
    for content in (body, in_chunks(body)):
        problem(sqlite_client.post("/v1/jobs", content=content, headers=JSON), 413)
    problem(sqlite_client.post(f"/v1/jobs/{uuid4()}/cancel", content=body), 413)
    problem(sqlite_client.post("/nowhere", content=body), 413)


def test_a_body_of_64_kib_is_accepted(sqlite_client: TestClient) -> None:
    body = json.dumps(VALID[0]).encode().ljust(65_536)
    for content in (body, in_chunks(body)):
        assert sqlite_client.post("/v1/jobs", content=content, headers=JSON).status_code == 202


def test_a_body_full_of_invalid_values_gets_a_short_response(sqlite_client: TestClient) -> None:
    for value in ("1", '"x"', "[]", "{}", "null"):
        values = ",".join([value] * (65_000 // (len(value) + 1)))
        body = b'{"search":{"strategy":"grid","param_grid":{"epochs":[%s]}}}' % values.encode()
        rejected(sqlite_client, body)
    keys = ",".join(f'"k{number}":1' for number in range(6_000))
    assert len(rejected(sqlite_client, f"{{{keys}}}".encode())) == 10


def test_large_text_is_never_echoed(sqlite_client: TestClient) -> None:
    long = "x" * 60_000
    for body, pointer in (
        ({"name": long, "search": VALID[0]["search"]}, "/name"),
        ({long: 1, "search": VALID[0]["search"]}, ""),
        ({"search": {"strategy": long}}, "/search/strategy"),
        ({"search": {"strategy": "grid", "param_grid": {long: [1]}}}, "/search/param_grid"),
        ({"search": {"strategy": "grid", "param_grid": {"optimizer": [long]}}}, "/search/param_grid/optimizer/0"),
        ({"search": VALID[0]["search"], "labels": {long: "a"}}, "/labels"),
    ):
        assert list(pointed(sqlite_client, body)) == [pointer]
        response = sqlite_client.post("/v1/jobs", json=body)
        assert len(response.content) < 1_000
        assert "x" * 50 not in response.text
