"""A second model and a second data set are one small file each: this one registers both, searches and trains them."""

from collections.abc import Iterator, Mapping

import numpy as np
import pytest
from fastapi.testclient import TestClient
from pydantic import Field
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sqlalchemy import Engine

from app.main import create_app
from app.tuning.search.datasets import DATASETS, Dataset
from app.tuning.search.models import Model, Shape
from app.tuning.search.registry import MODELS
from tests.conftest import IdleHousekeeper
from tests.worker.test_runner import run
from worker import datasets

pytest.importorskip("tensorflow", reason="TensorFlow is not installed")

from worker import fit
from worker.compiled.state import Checkpoints
from worker.locking import Alive
from worker.training import OnEpoch, Report, Scores, Split

SIZE, TRAIN, TEST = 6, 90, 30


def load_stripes(alive: Alive) -> datasets.FourArrays:
    """Horizontal, vertical and diagonal stripes under noise."""
    random = np.random.default_rng(0)
    row, column = np.indices((SIZE, SIZE))
    patterns = np.stack([row % 2, column % 2, (row + column) % 2])
    labels = np.arange(TRAIN + TEST) % 3
    images = 50 * patterns[labels] + random.integers(0, 200, (len(labels), SIZE, SIZE))
    pixels, classes = images.astype(np.uint8), labels.astype(np.uint8)
    return pixels[:TRAIN], classes[:TRAIN], pixels[TRAIN:], classes[TRAIN:]


STRIPES = Dataset(
    name="stripes",
    description="Stripes in three directions.",
    train_samples=TRAIN,
    test_samples=TEST,
    shape=(SIZE, SIZE, 1),
    classes=3,
    download=False,
    scale=255.0,
    smallest_train=tuple(3 * k - 2 for k in range(2, 11)),
)


class Neighbours(Model):
    """Classifies by the majority of the nearest neighbours."""

    name = "neighbours"
    neighbours: int = Field(1, ge=1, le=25, description="how many of the nearest are asked")

    def training_cost(self, shape: Shape, classes: int) -> int:
        return shape[0] * shape[1]


def train_neighbours(
    hyperparameters: Mapping[str, int | float | str],
    split: Split,
    seed: int,
    report: Report,
    on_epoch: OnEpoch,
    checkpoints: Checkpoints | None = None,
) -> Scores:
    report(15.0)
    model = KNeighborsClassifier(int(hyperparameters["neighbours"]))
    model.fit(split.images[split.rows].reshape(len(split.rows), -1), split.labels[split.rows])
    scored = split.score_images[split.score_rows].reshape(len(split.score_rows), -1)
    return Scores(float(model.score(scored, split.score_labels[split.score_rows])), float("nan"), 0.1, 0.1)


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Register both for one test."""
    monkeypatch.setitem(DATASETS, STRIPES.name, STRIPES)
    monkeypatch.setitem(datasets.LOADERS, STRIPES.name, load_stripes)
    monkeypatch.setitem(MODELS, Neighbours.name, Neighbours)
    monkeypatch.setitem(fit.TRAINERS, Neighbours.name, train_neighbours)
    yield
    datasets.forget_dataset()


@pytest.mark.usefixtures("registered")
def test_a_model_and_a_data_set_registered_from_outside_are_searched_and_trained(engine: Engine) -> None:
    spec = {
        "dataset": {"name": "stripes"},
        "model": "neighbours",
        "search": {"strategy": "grid", "param_grid": {"neighbours": [1, 5, 25]}},
    }
    with TestClient(create_app(engine, IdleHousekeeper)) as client:
        job = client.post("/v1/jobs", json=spec).json()
        assert run(engine, fit.train_fit, most=20) == 10
        best = client.get(f"/v1/jobs/{job['id']}/best").json()
        images, labels, test_images, test_labels = load_stripes(lambda: None)
        searched = GridSearchCV(KNeighborsClassifier(), {"n_neighbors": [1, 5, 25]}, cv=3)
        searched.fit(images.reshape(TRAIN, -1), labels)
        assert best["final"] and best["params"]["neighbours"] == searched.best_params_["n_neighbors"]
        assert best["validation"]["mean_accuracy"] == searched.best_score_
        assert best["test"]["accuracy"] == searched.score(test_images.reshape(TEST, -1), test_labels)
        assert "stripes" in [one["name"] for one in client.get("/v1/datasets").json()["items"]]
        assert "neighbours" in [one["name"] for one in client.get("/v1/models").json()["items"]]
        wrong = client.post("/v1/jobs", json={**spec, "model": "forest"}).json()
        [error] = wrong["errors"]
        assert error["pointer"] == "/model" and error["message"].endswith(" or 'neighbours'")


def test_an_unregistered_name_is_rejected(sqlite_client: TestClient) -> None:
    spec = {"search": {"strategy": "grid", "param_grid": {"num_neurons": [8]}}, "dataset": {"name": "stripes"}}
    response = sqlite_client.post("/v1/jobs", json=spec)
    assert response.status_code == 422
    [error] = response.json()["errors"]
    assert error["pointer"] == "/dataset/name" and "'stripes'" not in error["message"]
