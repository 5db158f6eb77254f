"""scikit-learn's classifiers: results equal to `GridSearchCV`'s, bit for bit, without TensorFlow."""

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from sklearn import datasets as sklearn_datasets
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sqlalchemy import Engine
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from app.main import create_app
from app.tuning.search.datasets import DATASETS
from app.tuning.search.estimators import ESTIMATORS
from tests.conftest import IdleHousekeeper
from tests.support.driving import post
from tests.worker.test_runner import run
from worker.datasets import load_dataset
from worker.fit import train_fit

SEED = 7
TABLES = ("iris", "wine", "breast_cancer", "digits")
SEARCHES: dict[str, tuple[Any, dict[str, list[Any]]]] = {
    "logistic_regression": (
        make_pipeline(StandardScaler(), LogisticRegression(random_state=SEED)),
        {"C": [0.01, 1.0], "class_weight": ["none", "balanced"]},
    ),
    "svc": (
        make_pipeline(StandardScaler(), SVC(random_state=SEED)),
        {"C": [0.1, 10.0], "gamma": ["scale", 0.01], "kernel": ["rbf", "poly"]},
    ),
    "random_forest": (
        RandomForestClassifier(random_state=SEED),
        {"max_depth": [0, 2], "max_features": ["sqrt", 0.5], "n_estimators": [5, 10]},
    ),
    "hist_gradient_boosting": (
        HistGradientBoostingClassifier(random_state=SEED),
        {"learning_rate": [0.05, 0.5], "max_iter": [5, 10]},
    ),
    "k_neighbors": (
        make_pipeline(StandardScaler(), KNeighborsClassifier()),
        {"n_neighbors": [1, 5], "p": [1.0, 2.0], "weights": ["uniform", "distance"]},
    ),
}
OURS_IN_SCIKIT_LEARN = {("class_weight", "none"): None, ("max_depth", 0): None}
Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def read(name: str) -> Arrays:
    """The training and the test set as scikit-learn takes them."""
    arrays = load_dataset(name, lambda: None)
    flat = (samples.reshape(len(samples), -1).astype(float) for samples in (arrays.x_train, arrays.x_test))
    return next(flat), arrays.y_train, next(flat), arrays.y_test


def search_with_scikit_learn(model: str, arrays: Arrays) -> GridSearchCV:
    estimator, grid = SEARCHES[model]
    prefix = f"{estimator.steps[-1][0]}__" if hasattr(estimator, "steps") else ""
    theirs = {
        prefix + name: [OURS_IN_SCIKIT_LEARN.get((name, value), value) for value in values]
        for name, values in grid.items()
    }
    with threadpool_limits(1):
        return GridSearchCV(estimator, theirs, cv=3).fit(arrays[0], arrays[1])


@pytest.mark.parametrize("dataset", TABLES)
@pytest.mark.parametrize("model", SEARCHES)
def test_results_equal_grid_search_cv_bit_for_bit(
    model: str, dataset: str, sqlite_engine: Engine, sqlite_client: TestClient
) -> None:
    arrays = read(dataset)
    searched = search_with_scikit_learn(model, arrays)
    job = {"dataset": {"name": dataset}, "model": model, "random_state": SEED}
    job_id = post(sqlite_client, {**job, "search": {"strategy": "grid", "param_grid": SEARCHES[model][1]}})["id"]
    run(sqlite_engine, train_fit, most=100)
    results = sqlite_client.get(f"/v1/jobs/{job_id}/results").json()
    compared = [name for name in searched.cv_results_ if "test_score" in name]
    assert len(compared) == 6
    assert {name: results[name] for name in compared} == {
        name: searched.cv_results_[name].tolist() for name in compared
    }
    best = sqlite_client.get(f"/v1/jobs/{job_id}/best").json()
    assert best["trial"] == searched.best_index_
    assert best["test"]["accuracy"] == searched.score(arrays[2], arrays[3])
    assert best["tied"] is not None
    if hasattr(searched, "predict_proba"):
        assert best["test"]["loss"] == log_loss(arrays[3], searched.predict_proba(arrays[2]))
    else:
        assert best["test"]["loss"] is None


@pytest.mark.parametrize("name", ["iris", "wine", "breast_cancer"])
def test_tables_are_scikit_learns_own_rows(name: str) -> None:
    arrays, known = load_dataset(name, lambda: None), DATASETS[name]
    table, labels = getattr(sklearn_datasets, f"load_{name}")(return_X_y=True)
    ours = np.column_stack([np.concatenate([arrays.x_train, arrays.x_test]), [*arrays.y_train, *arrays.y_test]])
    assert sorted(map(tuple, ours)) == sorted(map(tuple, np.column_stack([table, labels])))
    assert (len(arrays.x_train), len(arrays.x_test)) == (known.train_samples, known.test_samples)
    assert (arrays.x_train.shape[1:], known.classes) == (known.shape, len(set(labels)))
    for folds in range(2, 11):
        fewest = known.smallest_for(folds)
        members = [np.bincount(arrays.y_train[:size]).max() for size in (fewest - 1, fewest)]
        assert members[0] < folds == members[1]


def test_repeats_have_other_seeds_and_the_first_is_the_jobs(engine: Engine) -> None:
    job = {
        "dataset": {"name": "iris"},
        "model": "random_forest",
        "search": {"strategy": "grid", "param_grid": {"n_estimators": [3]}},
        "evaluation": {"cv": 2, "repeats": 3, "refit": False},
    }
    with TestClient(create_app(engine, IdleHousekeeper)) as client:
        job_id = post(client, job)["id"]
        run(engine, train_fit, most=10)
        results = client.get(f"/v1/jobs/{job_id}/results").json()
    x_train, y_train, *_ = read("iris")
    theirs = GridSearchCV(RandomForestClassifier(random_state=0), {"n_estimators": [3]}, cv=2).fit(x_train, y_train)
    scores = [results[f"split{fold}_test_score"][0] for fold in range(6)]
    assert scores[:2] == [theirs.cv_results_[f"split{fold}_test_score"][0] for fold in range(2)]
    assert len({tuple(scores[start : start + 2]) for start in (0, 2, 4)}) > 1


def test_a_failed_candidate_is_a_result(sqlite_engine: Engine, sqlite_client: TestClient) -> None:
    grid = {"strategy": "grid", "param_grid": {"n_neighbors": [3, 500]}}
    job_id = post(sqlite_client, {"dataset": {"name": "iris"}, "model": "k_neighbors", "search": grid})["id"]
    run(sqlite_engine, train_fit, most=20)
    trials = sqlite_client.get(f"/v1/jobs/{job_id}/trials").json()["items"]
    assert [one["state"] for one in trials] == ["succeeded", "failed"]
    assert "n_neighbors" in trials[1]["error"]["message"]


@pytest.mark.parametrize(
    ("changes", "pointer", "hint"),
    [
        ({"model": "cnn"}, "/model", "iris is a table: use one of logistic_regression"),
        ({"dataset": {"name": "mnist"}, "model": "svc"}, "/dataset/train_samples", "at most 20,000 samples"),
        ({"model": "svc", "search": {"strategy": "grid", "param_grid": {"gamma": ["auto", "wide"]}}}, None, "'scale'"),
        ({"model": "svc", "search": {"strategy": "grid", "param_grid": {"gamma": [0]}}}, None, "greater than 0"),
        (
            {"search": {"strategy": "halving_grid", "param_grid": {"n_estimators": [1, 2]}}},
            "/search/resource",
            "random_forest has no epochs: use n_samples or folds",
        ),
    ],
)
def test_what_does_not_fit_is_rejected(changes: Any, pointer: str | None, hint: str, sqlite_client: TestClient) -> None:
    search = {"strategy": "grid", "param_grid": {"min_samples_leaf": [1, 2]} if "model" not in changes else {"C": [1]}}
    if changes.get("model") == "cnn":
        search["param_grid"] = {"l1": [0]}
    job = {"dataset": {"name": "iris"}, "model": "random_forest", "search": search, **changes}
    response = sqlite_client.post("/v1/jobs", json=job)
    assert response.status_code == 422, response.text
    [error] = response.json()["errors"]
    assert pointer in (None, error["pointer"])
    assert hint in error["message"]


def test_numbers_may_have_choices_besides(sqlite_client: TestClient) -> None:
    models = {one["name"]: one["hyperparameters"] for one in sqlite_client.get("/v1/models").json()["items"]}
    assert set(models) == {"cnn", *(one.name for one in ESTIMATORS)}
    [gamma] = [one for one in models["svc"] if one["name"] == "gamma"]
    assert (gamma["type"], gamma["exclusive_minimum"], gamma["choices"]) == ("number", 0, ["scale", "auto"])
    drawn = {"C": {"distribution": "loguniform", "low": 0.1, "high": 10}, "gamma": ["scale", 0.1]}
    search = {"strategy": "random", "param_distributions": drawn, "n_iter": 4}
    assert post(sqlite_client, {"dataset": {"name": "wine"}, "model": "svc", "search": search})["trials"]["total"] == 4


TRAIN = """
import json, sys
import numpy as np
from worker import fit
from worker.training import Split
from worker.datasets import load_dataset
arrays = load_dataset("wine", lambda: None)
rows = np.arange(len(arrays.y_train))
split = Split(*arrays[:2], rows, *arrays[2:4], np.arange(len(arrays.y_test)), 1.0, 3, False)
scores = fit.TRAINERS["random_forest"]({"n_estimators": 5}, split, 0, lambda within: None, lambda epoch: None)
print(json.dumps([scores.accuracy, "tensorflow" in sys.modules]))
"""


def test_no_tensorflow_is_loaded_for_them() -> None:
    done = subprocess.run([sys.executable, "-c", TRAIN], capture_output=True, text=True, check=True)
    accuracy, loaded = json.loads(done.stdout)
    assert accuracy > 0.8
    assert not loaded
