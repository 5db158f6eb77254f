"""Checks of the API's errors, and valid jobs from which to make invalid ones."""

import json
from typing import Any

from fastapi.testclient import TestClient
from httpx2 import Response

from tests.support.driving import ARTICLE, DRAWN

JSON = {"Content-Type": "application/json"}
VALID: list[dict[str, Any]] = [
    ARTICLE,
    {
        "search": {"strategy": "random", "param_distributions": DRAWN, "n_iter": 3},
        "evaluation": {"validation_split": 0.1},
    },
    {"search": {"strategy": "random", "param_distributions": [DRAWN, {"optimizer": ["adam", "sgd"]}]}},
    {
        "search": {"strategy": "grid", "param_grid": [{"epochs": [1, 2]}, {"l1": [0, 0.5]}]},
        "dataset": {"name": "digits"},
    },
]


def resolved(body: Any, pointer: str) -> Any:
    """The value that a JSON pointer (RFC 6901) refers to."""
    for step in pointer.split("/")[1:]:
        step = step.replace("~1", "/").replace("~0", "~")
        body = body[int(step)] if isinstance(body, list) else body[step]
    return body


def problem(response: Response, status: int) -> dict[str, Any]:
    """A problem document, after checks that hold for all of them."""
    assert response.status_code == status, response.text[:500]
    assert response.headers["Content-Type"] == "application/problem+json"
    assert len(response.content) <= 8192
    document: dict[str, Any] = response.json()
    assert {"type", "title", "status", "detail"} <= set(document)
    assert document["status"] == status
    assert len(document.get("errors", [])) <= 10
    for secret in ("Traceback", "sqlite", "postgresql", 'File "', "/app/", "site-packages"):
        assert secret not in response.text
    return document


def rejected(client: TestClient, body: bytes) -> list[dict[str, str]]:
    """The errors of a body that is rejected with 422."""
    document = problem(client.post("/v1/jobs", content=body, headers=JSON), 422)
    errors: list[dict[str, str]] = document["errors"]
    assert errors
    assert all(set(error) == {"pointer", "message"} and error["message"] for error in errors)
    return errors


def pointed(client: TestClient, body: Any) -> dict[str, str]:
    """The errors of a rejected job by JSON pointer; each pointer refers to a value of the job."""
    errors = rejected(client, json.dumps(body).encode())
    for error in errors:
        path = error["pointer"]
        resolved(body, path.rpartition("/")[0] if error["message"].startswith("Field required") else path)
    return {error["pointer"]: error["message"] for error in errors}
