"""What a model predicts over REST, by onnxruntime."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from app.api import predictions
from app.tuning.settings import settings
from tests.api.test_models import MODEL, end_with_model
from tests.support.driving import grid, post
from tests.worker.test_runner import run
from worker.datasets import load_dataset
from worker.fit import train_fit

DIGITS = {"dataset": {"name": "digits", "train_samples": 300, "test_samples": 100}}
GRIDS: dict[str, dict[str, Any]] = {"logistic_regression": {"C": [0.1]}, "svc": {"C": [1.0]}, "ridge": {"alpha": [1.0]}}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("TUNEWELL_HOME", str(tmp_path))
    settings.cache_clear()
    yield tmp_path
    settings.cache_clear()


def train(client: TestClient, engine: Engine, model: str, dataset: dict[str, Any]) -> str:
    """The address of a job that has trained a model."""
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    search = {"strategy": "grid", "param_grid": GRIDS[model]}
    job = post(client, {**dataset, "model": model, "search": search, "evaluation": {"validation_split": 0.1}})
    run(engine, train_fit, most=10)
    return f"/v1/jobs/{job['id']}"


@pytest.mark.parametrize("model", ["logistic_regression", "svc"])
def test_the_test_set_is_predicted_as_accurately_as_recorded(
    sqlite_client: TestClient, sqlite_engine: Engine, model: str
) -> None:
    address = train(sqlite_client, sqlite_engine, model, DIGITS)
    arrays, test = load_dataset("digits", lambda: None), sqlite_client.get(f"{address}/best").json()["test"]
    images = arrays.x_test[:100].reshape(100, -1).tolist()
    found = sqlite_client.post(f"{address}/predict", json={"instances": images}).json()["predictions"]
    hits = np.array([one["class_number"] for one in found]) == arrays.y_test[:100]
    assert float(np.mean(hits)) == test["accuracy"]
    assert all(one["class_name"] == str(one["class_number"]) and one["value"] is None for one in found)
    for one in found:
        given = one["probabilities"]
        assert given is None if model == "svc" else int(np.argmax(given)) == one["class_number"]


def test_a_number_is_predicted(sqlite_client: TestClient, sqlite_engine: Engine) -> None:
    address = train(sqlite_client, sqlite_engine, "ridge", {"dataset": {"name": "diabetes"}})
    arrays = load_dataset("diabetes", lambda: None)
    found = sqlite_client.post(f"{address}/predict", json={"instances": arrays.x_test[:5].tolist()}).json()
    assert [one["class_number"] for one in found["predictions"]] == [None] * 5
    assert all(20 < one["value"] < 350 for one in found["predictions"])


@pytest.mark.parametrize(
    "instances", [[[1, 2, 3]], [], [1, 2], [["a"] * 64], [[1, 2], [3]], [[None] * 64], [{}]], ids=str
)
def test_samples_of_another_shape_are_rejected(
    sqlite_client: TestClient, sqlite_engine: Engine, instances: list[Any]
) -> None:
    address = train(sqlite_client, sqlite_engine, "logistic_regression", DIGITS)
    answer = sqlite_client.post(f"{address}/predict", json={"instances": instances})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/instances")


def test_why_nothing_can_be_predicted(
    sqlite_client: TestClient, sqlite_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(job_id: str) -> tuple[int, str]:
        response = sqlite_client.post(f"/v1/jobs/{job_id}/predict", json={"instances": [[1]]})
        return response.status_code, response.json()["detail"]

    job_id = str(post(sqlite_client, grid(1))["id"])
    assert answer(job_id)[0] == 409
    end_with_model(sqlite_engine, job_id)
    monkeypatch.setattr(predictions, "find_spec", lambda name: None)
    status, detail = answer(job_id)
    assert (status, "onnx" in detail) == (501, True)
    monkeypatch.setattr(predictions, "find_spec", lambda name: object())
    status, detail = answer(job_id)
    assert (status, MODEL["left_out"]["onnx"] in detail) == (409, True)
