"""scikit-learn's estimators: results equal to `GridSearchCV`'s, bit for bit, without TensorFlow."""

import json
import subprocess
import sys
import warnings
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from sklearn import datasets as sklearn_datasets
from sklearn import ensemble
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import confusion_matrix, log_loss, mean_squared_error
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, SVR
from sqlalchemy import Engine
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from app.api.datasets import get_converter
from app.main import create_app
from app.tuning.search.datasets import DATASETS
from app.tuning.search.estimators import ESTIMATORS
from app.tuning.search.registry import MODELS
from app.tuning.search.scoring import SCORERS, Task, list_scorings
from tests.conftest import IdleHousekeeper
from tests.support.driving import post
from tests.support.uploads import convert_here, upload
from tests.worker.test_runner import run
from worker.datasets import load_dataset
from worker.fit import train_fit

SEED = 7
PART = 60  # training samples that scorings are compared on
EVERY_SECOND = {"wine": 0, "digits": 1}  # scorings on these data sets, from this one on
KINDS: dict[Task, tuple[str, ...]] = {
    "classification": ("iris", "wine", "breast_cancer", "digits"),
    "regression": ("diabetes",),
}
Grid = dict[str, list[Any]]
Search = tuple[Any, Grid]
SEARCHES: dict[Task, dict[str, Search]] = {
    "classification": {
        "logistic_regression": (
            make_pipeline(StandardScaler(), LogisticRegression(random_state=SEED)),
            {"C": [0.01, 1.0], "class_weight": ["none", "balanced"]},
        ),
        "svc": (
            make_pipeline(StandardScaler(), SVC(random_state=SEED)),
            {"C": [10.0], "gamma": ["scale", 0.01], "kernel": ["rbf", "poly"]},
        ),
        "random_forest": (
            ensemble.RandomForestClassifier(random_state=SEED),
            {"max_depth": [0, 2], "max_features": ["auto", 0.5], "n_estimators": [5]},
        ),
        "hist_gradient_boosting": (
            ensemble.HistGradientBoostingClassifier(random_state=SEED),
            {"learning_rate": [0.05, 0.5], "max_iter": [2, 4]},
        ),
        "k_neighbors": (
            make_pipeline(StandardScaler(), KNeighborsClassifier()),
            {"n_neighbors": [5], "p": [1.0, 2.0], "weights": ["uniform", "distance"]},
        ),
    },
    "regression": {
        "ridge": (make_pipeline(StandardScaler(), Ridge(random_state=SEED)), {"alpha": [0.1, 10.0]}),
        "svr": (make_pipeline(StandardScaler(), SVR()), {"C": [1.0, 100.0], "kernel": ["linear", "rbf"]}),
        "random_forest": (
            ensemble.RandomForestRegressor(random_state=SEED),
            {"max_depth": [0, 2], "max_features": ["auto", "sqrt"], "n_estimators": [5]},
        ),
        "hist_gradient_boosting": (
            ensemble.HistGradientBoostingRegressor(random_state=SEED),
            {"learning_rate": [0.05, 0.5], "max_iter": [5]},
        ),
        "k_neighbors": (make_pipeline(StandardScaler(), KNeighborsRegressor()), {"n_neighbors": [3, 9]}),
    },
}
CASES = [(task, model, dataset) for task, models in SEARCHES.items() for model in models for dataset in KINDS[task]]
Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def read(name: str) -> Arrays:
    """The training and the test set as scikit-learn takes them."""
    arrays = load_dataset(name, lambda: None)
    flat = (samples.reshape(len(samples), -1).astype(float) for samples in (arrays.x_train, arrays.x_test))
    return next(flat), arrays.y_train, next(flat), arrays.y_test


def search_with_scikit_learn(task: Task, model: str, arrays: Arrays, grid: Grid, **more: Any) -> GridSearchCV:
    estimator, _ = SEARCHES[task][model]
    prefix = f"{estimator.steps[-1][0]}__" if hasattr(estimator, "steps") else ""
    auto = "sqrt" if task == "classification" else 1.0
    ours = {("class_weight", "none"): None, ("max_depth", 0): None, ("max_features", "auto"): auto}
    theirs = {prefix + name: [ours.get((name, value), value) for value in values] for name, values in grid.items()}
    with threadpool_limits(1):
        return GridSearchCV(estimator, theirs, **more).fit(arrays[0], arrays[1])


@pytest.mark.parametrize(("task", "model", "dataset"), CASES)
def test_results_equal_grid_search_cv_bit_for_bit(
    task: Task, model: str, dataset: str, sqlite_engine: Engine, sqlite_client: TestClient
) -> None:
    arrays = read(dataset)
    grid = SEARCHES[task][model][1]
    searched = search_with_scikit_learn(task, model, arrays, grid, cv=3)
    job = {"dataset": {"name": dataset}, "model": model, "random_state": SEED}
    job_id = post(sqlite_client, {**job, "search": {"strategy": "grid", "param_grid": grid}})["id"]
    run(sqlite_engine, train_fit, most=100)
    results = sqlite_client.get(f"/v1/jobs/{job_id}/results").json()
    compared = [name for name in searched.cv_results_ if "test_score" in name]
    assert len(compared) == 6
    assert {name: results[name] for name in compared} == {
        name: searched.cv_results_[name].tolist() for name in compared
    }
    best = sqlite_client.get(f"/v1/jobs/{job_id}/best").json()
    assert best["trial"] == searched.best_index_
    assert best["validation"]["mean_score"] == searched.best_score_
    assert best["test"]["score"] == searched.score(arrays[2], arrays[3])
    predicted = searched.predict(arrays[2])
    if task == "regression":
        assert best["validation"]["scoring"] == "r2"
        assert (best["validation"]["mean_accuracy"], best["test"]["accuracy"], best["tied"]) == (None, None, None)
        assert best["test"]["loss"] == mean_squared_error(arrays[3], predicted)
        assert best["test"]["confusion"] is None
    else:
        assert best["test"]["accuracy"] == best["test"]["score"]
        assert best["test"]["confusion"] == confusion_matrix(arrays[3], predicted).tolist()
        assert best["tied"] is not None
        given = hasattr(searched, "predict_proba")
        assert best["test"]["loss"] == (log_loss(arrays[3], searched.predict_proba(arrays[2])) if given else None)


@pytest.mark.parametrize(("task", "model", "dataset"), CASES)
def test_every_scoring_equals_grid_search_cv_bit_for_bit(
    task: Task, model: str, dataset: str, sqlite_engine: Engine, sqlite_client: TestClient
) -> None:
    arrays = read(dataset)
    part = (arrays[0][:PART], arrays[1][:PART], *arrays[2:])
    scorings = list_scorings(task, DATASETS[dataset].classes, MODELS[model].gives_probabilities)
    if dataset in EVERY_SECOND:
        scorings = scorings[EVERY_SECOND[dataset] :: 2]
    grid = {name: values[:1] for name, values in SEARCHES[task][model][1].items()}
    grid |= dict([next(one for one in SEARCHES[task][model][1].items() if one[1][1:])])
    more = {"scoring": scorings, "refit": False, "error_score": "raise", "cv": 2}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        searched = search_with_scikit_learn(task, model, part, grid, **more)
    job = {"dataset": {"name": dataset, "train_samples": PART}, "model": model, "random_state": SEED}
    job |= {"search": {"strategy": "grid", "param_grid": grid}}
    evaluations = {scoring: {"cv": 2, "scoring": scoring, "refit": False} for scoring in scorings}
    jobs = {
        scoring: post(sqlite_client, {**job, "evaluation": evaluation})["id"]
        for scoring, evaluation in evaluations.items()
    }
    run(sqlite_engine, train_fit, most=100)
    for scoring, job_id in jobs.items():
        results = sqlite_client.get(f"/v1/jobs/{job_id}/results").json()
        for name in ("split0_test", "split1_test", "mean_test", "std_test", "rank_test"):
            assert results[f"{name}_score"] == searched.cv_results_[f"{name}_{scoring}"].tolist(), (scoring, name)
        best = sqlite_client.get(f"/v1/jobs/{job_id}/best").json()
        assert best["validation"]["mean_score"] == max(results["mean_test_score"])


def test_what_a_model_or_a_data_set_cannot_be_scored_by_is_rejected_with_what_to_take(
    sqlite_client: TestClient,
) -> None:
    for dataset, model in (("iris", "svc"), ("breast_cancer", "svc"), ("wine", "k_neighbors"), ("diabetes", "svr")):
        known = DATASETS[dataset]
        able = list_scorings(known.task, known.classes, MODELS[model].gives_probabilities)
        name = "C" if "C" in MODELS[model].model_fields else "n_neighbors"
        job = {
            "dataset": {"name": dataset},
            "model": model,
            "search": {"strategy": "grid", "param_grid": {name: [1]}},
        }
        for scoring in SCORERS:
            response = sqlite_client.post("/v1/preview", json={**job, "evaluation": {"scoring": scoring}})
            if scoring in able:
                assert response.status_code == 200, response.text
                continue
            [error] = response.json()["errors"]
            assert (response.status_code, error["pointer"]) == (422, "/evaluation/scoring")
            first = {"f1": "f1_macro", "roc_auc": "roc_auc_ovr"}.get(scoring, able[0])
            assert f"use one of {first if first in able else able[0]}" in error["message"]


def test_a_scoring_that_is_not_defined_fails_the_fit_with_the_reason(
    sqlite_engine: Engine, sqlite_client: TestClient
) -> None:
    job = {
        "dataset": {"name": "breast_cancer", "train_samples": 4},
        "model": "k_neighbors",
        "search": {"strategy": "grid", "param_grid": {"n_neighbors": [1]}},
        "evaluation": {"validation_split": 0.25, "scoring": "roc_auc"},
    }
    job_id = post(sqlite_client, job)["id"]
    run(sqlite_engine, train_fit, most=2)
    [trial] = sqlite_client.get(f"/v1/jobs/{job_id}/trials").json()["items"]
    assert (trial["state"], trial["validation_score"]) == ("failed", None)
    assert "roc_auc is not defined for 1 scored rows" in trial["error"]["message"]


@pytest.mark.parametrize("name", ["iris", "wine", "breast_cancer", "diabetes"])
def test_tables_are_scikit_learns_own_rows(name: str) -> None:
    arrays, known = load_dataset(name, lambda: None), DATASETS[name]
    table, labels = getattr(sklearn_datasets, f"load_{name}")(return_X_y=True)
    ours = np.column_stack([np.concatenate([arrays.x_train, arrays.x_test]), [*arrays.y_train, *arrays.y_test]])
    assert sorted(map(tuple, ours)) == sorted(map(tuple, np.column_stack([table, labels])))
    assert (len(arrays.x_train), len(arrays.x_test)) == (known.train_samples, known.test_samples)
    assert arrays.x_train.shape[1:] == known.shape
    if known.task == "regression":
        assert (known.classes, known.smallest_train) == (0, tuple(range(2, 11)))
        return
    assert known.classes == len(set(labels))
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
    theirs = GridSearchCV(ensemble.RandomForestClassifier(random_state=0), {"n_estimators": [3]}, cv=2).fit(
        x_train, y_train
    )
    scores = [results[f"split{fold}_test_score"][0] for fold in range(6)]
    assert scores[:2] == [theirs.cv_results_[f"split{fold}_test_score"][0] for fold in range(2)]
    assert len({tuple(scores[start : start + 2]) for start in (0, 2, 4)}) > 1


def test_a_race_and_one_standard_error_go_by_the_score(sqlite_engine: Engine, sqlite_client: TestClient) -> None:
    """Of errors, which are below 0, a race would drop nobody if it hoped for 1 on the folds that are left."""
    alphas = [0.01, 1.0, 100.0, 1e4, 1e5, 1e6, 1e7]
    x_train, y_train, *_ = read("diabetes")
    ridge = make_pipeline(StandardScaler(), Ridge())
    scoring = "neg_mean_squared_error"
    searched = GridSearchCV(ridge, {"ridge__alpha": alphas}, cv=5, scoring=scoring).fit(x_train, y_train)
    scores = np.array([searched.cv_results_[f"split{fold}_test_score"] for fold in range(5)]).T
    job = {
        "dataset": {"name": "diabetes"},
        "model": "ridge",
        "search": {"strategy": "grid", "param_grid": {"alpha": alphas}},
    }
    evaluation = {"cv": 5, "scoring": scoring, "refit": False}
    raced = post(sqlite_client, {**job, "evaluation": {**evaluation, "race": {"method": "lossless"}}})["id"]
    cautious = post(sqlite_client, {**job, "evaluation": {**evaluation, "select": "one_standard_error"}})["id"]
    run(sqlite_engine, train_fit, most=100)
    best = sqlite_client.get(f"/v1/jobs/{raced}/best").json()
    assert best["trial"] == searched.best_index_
    assert best["validation"]["fold_scores"] == scores[searched.best_index_].tolist()
    assert sqlite_client.get(f"/v1/jobs/{raced}").json()["trials"]["pruned"] > 0
    chosen = sqlite_client.get(f"/v1/jobs/{cautious}/best").json()
    means, spread = scores.mean(axis=1), scores[searched.best_index_].std(ddof=1) / 5**0.5
    assert chosen["trial"] in np.flatnonzero(means >= means.max() - spread)
    assert chosen["selection"]["rule"] == "one_standard_error"


@pytest.mark.usefixtures("home")
def test_an_uploaded_table_of_numbers_to_predict_is_a_regression(sqlite_engine: Engine) -> None:
    random = np.random.default_rng(0)
    table = random.normal(size=(80, 3))
    price = table @ [3.0, -2.0, 0.5] + random.normal(0, 0.1, 80)
    lines = [f"{a:.4f},{b:.4f},{c:.4f},{y:.4f}" for (a, b, c), y in zip(table, price, strict=True)]
    app = create_app(sqlite_engine, IdleHousekeeper)
    app.dependency_overrides[get_converter] = lambda: convert_here
    job = {
        "dataset": {"name": "prices"},
        "model": "ridge",
        "search": {"strategy": "grid", "param_grid": {"alpha": [0.1, 1e6]}},
    }
    with TestClient(app) as client:
        content = "\n".join(["a,b,c,price", *lines]).encode()
        known = upload(client, "prices", content, target="price", task="regression")
        assert (known["task"], known["classes"]) == ("regression", 0)
        job_id = post(client, job)["id"]
        run(sqlite_engine, train_fit, most=10)
        best = client.get(f"/v1/jobs/{job_id}/best").json()
    assert (best["trial"], best["final"], best["validation"]["scoring"]) == (0, True, "r2")
    assert best["test"]["score"] > 0.99 and best["validation"]["mean_score"] > 0.99
    assert (best["test"]["accuracy"], best["test"]["confusion"]) == (None, None)


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
        ({"model": "cnn"}, "/model", "iris is a table: use one of mlp, logistic_regression"),
        (
            {"model": "ridge"},
            "/model",
            "ridge is for regression, and iris is classification: use one of mlp, logistic_",
        ),
        (
            {"dataset": {"name": "diabetes"}, "model": "svc"},
            "/model",
            "svc is for classification, and diabetes is regression: use one of mlp, ridge, svr",
        ),
        (
            {
                "dataset": {"name": "diabetes"},
                "search": {"strategy": "grid", "param_grid": {"class_weight": ["balanced"]}},
            },
            "/search",
            "class_weight weighs classes, which diabetes has not",
        ),
        (
            {"dataset": {"name": "diabetes", "train_samples": 2}},
            "/dataset/train_samples",
            "cv=3 needs at least 3 samples: use 3 or more",
        ),
        (
            {"evaluation": {"scoring": "f1_macro", "race": {"method": "bootstrap"}}},
            "/evaluation/race/method",
            "not by f1_macro: use 'lossless'",
        ),
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
    if own := {"cnn": {"l1": [0]}, "ridge": {"alpha": [1]}}.get(changes.get("model")):
        search["param_grid"] = own
    job = {"dataset": {"name": "iris"}, "model": "random_forest", "search": search, **changes}
    response = sqlite_client.post("/v1/jobs", json=job)
    assert response.status_code == 422, response.text
    [error] = response.json()["errors"]
    assert pointer in (None, error["pointer"])
    assert hint in error["message"]


def test_numbers_may_have_choices_besides(sqlite_client: TestClient) -> None:
    models = {one["name"]: one["hyperparameters"] for one in sqlite_client.get("/v1/models").json()["items"]}
    assert set(models) == {"cnn", "mlp", "resnet", *(one.name for one in ESTIMATORS)}
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
split = Split(*arrays[:2], rows, *arrays[2:4], np.arange(len(arrays.y_test)), 1.0, 3, False, "neg_log_loss")
scores = fit.TRAINERS["random_forest"]({"n_estimators": 5}, split, 0, lambda within: None, lambda epoch: None)
print(json.dumps([scores.accuracy, "tensorflow" in sys.modules]))
"""


def test_no_tensorflow_is_loaded_for_them() -> None:
    done = subprocess.run([sys.executable, "-c", TRAIN], capture_output=True, text=True, check=True)
    accuracy, loaded = json.loads(done.stdout)
    assert accuracy > 0.8
    assert not loaded
