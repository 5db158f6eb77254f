"""A client's own data on its whole way: uploaded, checked, stored, trained on by a worker, and a best found."""

import io
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sqlalchemy import Engine

from app.main import create_app
from app.tuning import storage
from app.tuning.settings import settings
from tests.conftest import IdleHousekeeper
from tests.support.live import Live
from tests.support.objects import ObjectStore
from tests.support.uploads import make_npz, put, upload
from tests.worker.test_runner import run

pytest.importorskip("tensorflow", reason="TensorFlow is not installed")

from worker import datasets, fit, stored_datasets

pytestmark = pytest.mark.system
GRID = {"strategy": "grid", "param_grid": {"C": [0.01, 1.0]}}


@pytest.fixture
def api(engine: Engine, home: Path) -> Iterator[TestClient]:
    """The service, with the real check in a child process."""
    with TestClient(create_app(engine, IdleHousekeeper)) as client:
        yield client
    datasets.forget_dataset()


def make_csv() -> bytes:
    """A table of numbers and categories, sorted by its classes."""
    random = np.random.default_rng(0)
    rows = ["age,plan,income,churned"]
    for churned in ("no", "yes"):
        for _ in range(60):
            low = churned == "yes"
            age, income = random.normal(30 if low else 45, 8), random.normal(20, 5)
            rows.append(f"{age:.2f},{random.choice(['basic', 'pro'])},{income:.2f},{churned}")
    return "\n".join(rows).encode()


def find_best(engine: Engine, client: TestClient, **spec: Any) -> dict[str, Any]:
    """Post a job, train all of it here, and return its best."""
    response = client.post("/v1/jobs", json=spec)
    assert response.status_code == 202, response.text
    run(engine, fit.train_fit, most=30)
    best = client.get(f"/v1/jobs/{response.json()['id']}/best")
    assert best.status_code == 200, client.get(f"/v1/jobs/{response.json()['id']}").text
    found: dict[str, Any] = best.json()
    return found


def test_a_table_gives_what_scikit_learn_finds_on_the_stored_arrays(engine: Engine, api: TestClient) -> None:
    sha256 = upload(api, "churn", make_csv(), target="churned")["sha256"]
    best = find_best(engine, api, dataset={"name": "churn"}, model="logistic_regression", search=GRID)
    x_train, y_train, x_test, y_test = stored_datasets.load_stored("churn", sha256, lambda *_: None)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    searched = GridSearchCV(model, {"logisticregression__C": [0.01, 1.0]}, cv=3)
    searched.fit(x_train.astype(np.float64), y_train)
    assert best["environment"]["dataset_sha256"] == sha256
    assert best["params"]["C"] == searched.best_params_["logisticregression__C"]
    assert best["validation"]["mean_accuracy"] == searched.best_score_
    assert best["test"]["accuracy"] == searched.score(x_test.astype(np.float64), y_test)


@pytest.mark.parametrize("color", [False, True])
def test_images_are_trained_on_by_the_convolutional_network(color: bool, sqlite_engine: Engine, home: Path) -> None:
    with TestClient(create_app(sqlite_engine, IdleHousekeeper)) as client:
        upload(client, "squares", make_npz(color=color))
        search = {"strategy": "grid", "param_grid": {"num_neurons": [8]}}
        best = find_best(
            sqlite_engine,
            client,
            **{
                "dataset": {"name": "squares"},
                "model": "cnn",
                "search": search,
                "evaluation": {"validation_split": 0.2},
            },
            fixed={"epochs": 3, "filters": 4},
        )
    assert best["test"]["samples"] == 12 and best["final"]
    datasets.forget_dataset()


def test_the_whole_way_over_a_bucket(sqlite_engine: Engine, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(prefix="tw-s3-") as folder:
        server = ObjectStore(Path(folder))
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        settings.cache_clear()
        server.start()
        try:
            with TestClient(create_app(sqlite_engine, IdleHousekeeper)) as client:
                check_bucket(server, sqlite_engine, client, home)
        finally:
            server.kill()


def check_bucket(server: ObjectStore, engine: Engine, client: TestClient, home: Path) -> None:
    """Upload and train with the storage there, then see what is said while it is away."""
    sha256 = upload(client, "churn", make_csv())["sha256"]
    best = find_best(engine, client, dataset={"name": "churn"}, model="logistic_regression", search=GRID)
    assert best["final"] and best["environment"]["dataset_sha256"] == sha256
    assert (home / "cache" / sha256).is_dir() and not (home / "storage").exists()
    server.kill()
    assert client.get("/readyz").json()["checks"]["storage"] == "unavailable"
    refused = put(client, "more", make_npz())
    assert refused.status_code == 503 and client.get("/v1/datasets/more").status_code == 404
    server.start()
    assert put(client, "more", make_npz()).status_code == 201
    assert client.delete("/v1/datasets/churn").status_code == 204
    assert {entry.key.split("/")[1] for entry in storage.list_files("datasets")} != {sha256}


def make_large_npz(megabytes: int) -> bytes:
    images = np.random.default_rng(0).integers(0, 256, (megabytes * 2**20 // 784, 28, 28), np.uint8)
    buffer = io.BytesIO()
    np.savez(buffer, x=images, y=(np.arange(len(images)) % 10).astype(np.uint8))
    return buffer.getvalue()


def test_a_large_upload_takes_little_memory_and_one_that_is_cut_leaves_nothing(tmp_path: Path) -> None:
    live = Live(tmp_path, f"sqlite:///{tmp_path / 'tunewell.db'}", "redis://127.0.0.1:1/0")
    try:
        upload(live.client, "small", make_npz())  # type: ignore[arg-type]
        before, content = live.peak("api"), make_large_npz(200)
        response = live.client.put("/v1/datasets/large", content=content, timeout=100)
        assert response.status_code == 201, response.text
        assert live.peak("api") - before < 50
        spool = tmp_path / "uploads"
        with socket.create_connection((live.client.base_url.host, live.client.base_url.port or 0)) as cut:
            cut.sendall(b"PUT /v1/datasets/cut HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 200000000\r\n\r\n")
            cut.sendall(content[: 20 * 2**20])
            live.until(lambda: len(list(spool.iterdir())) == 1, 20)
        live.until(lambda: not list(spool.iterdir()), 20)
        assert live.client.get("/v1/datasets/cut").status_code == 404
        assert len(list((tmp_path / "storage" / "datasets").iterdir())) == 2
    finally:
        live.stop()
