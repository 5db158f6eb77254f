"""scikit-learn's interface: what a service finds equals what scikit-learn finds here."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sqlalchemy import Engine

import tunewell
from app.tuning.settings import settings
from tests.worker.test_runner import run
from tunewell.sklearn import GridSearch, RandomizedSearch
from worker.datasets import load_dataset
from worker.fit import train_fit

NEIGHBORS = make_pipeline(StandardScaler(), KNeighborsClassifier())
GRID = {"kneighborsclassifier__n_neighbors": [1, 5, 9], "kneighborsclassifier__weights": ["uniform", "distance"]}


@pytest.fixture(autouse=True)
def _own_storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is uploaded is stored in a folder of the test's own."""
    monkeypatch.setenv("TUNEWELL_HOME", str(tmp_path / "home"))
    settings.cache_clear()


@pytest.fixture
def client(_own_storage: None, url: str, sqlite_engine: Engine) -> Iterator[tunewell.Client]:
    """A client of a service with a worker in this process."""
    done = threading.Event()

    def work() -> None:
        while not done.wait(0.05):
            run(sqlite_engine, train_fit, most=100)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        with tunewell.Client(url) as made:
            yield made
    finally:
        done.set()
        thread.join()


def compare(ours: Any, theirs: Any) -> None:
    """Equal to the last digit, but for seconds."""
    assert (ours.best_params_, ours.best_score_) == (theirs.best_params_, theirs.best_score_)
    assert ours.best_index_ == theirs.best_index_
    assert ours.cv_results_.keys() == theirs.cv_results_.keys()
    for name, column in theirs.cv_results_.items():
        if not name.endswith("_time"):
            assert np.array_equal(ours.cv_results_[name], column), name
            assert np.array_equal(np.ma.getmaskarray(ours.cv_results_[name]), np.ma.getmaskarray(column)), name


def test_a_grid_search_finds_what_scikit_learn_finds(client: tunewell.Client) -> None:
    arrays = load_dataset("iris", lambda: None)
    compare(
        GridSearch(NEIGHBORS, GRID, cv=3, client=client).fit(dataset="iris"),
        GridSearchCV(NEIGHBORS, GRID, cv=3).fit(arrays.x_train, arrays.y_train),
    )


def test_uploaded_samples_are_searched_as_they_are(client: tunewell.Client) -> None:
    """Every row is in the folds, in its order, and classes keep their names; equal samples are stored once."""
    few = {"kneighborsclassifier__n_neighbors": [1, 5]}
    samples, numbers = load_iris(return_X_y=True)
    classes = np.array(["setosa", "versicolor", "virginica"])[numbers]
    found = GridSearch(NEIGHBORS, few, cv=2, client=client).fit(samples, classes)
    compare(found, GridSearchCV(NEIGHBORS, few, cv=2).fit(samples, classes))
    assert found.classes_.tolist() == ["setosa", "versicolor", "virginica"]
    document = found.job_.document
    assert document["labels"] == {"test-set": "training-samples"}
    again = GridSearch(NEIGHBORS, few, cv=2, client=client).fit(samples, classes, X_test=samples, y_test=classes)
    assert again.job_.document["spec"]["dataset"] == document["spec"]["dataset"]
    assert again.job_.document["labels"] == {}


def test_a_randomized_search_finds_what_scikit_learn_finds(client: tunewell.Client) -> None:
    arrays = load_dataset("iris", lambda: None)
    space = {**GRID, "kneighborsclassifier__n_neighbors": stats.randint(1, 30)}
    more: dict[str, Any] = {"n_iter": 4, "cv": 2, "random_state": 5}
    compare(
        RandomizedSearch(NEIGHBORS, space, client=client, **more).fit(dataset="iris"),
        RandomizedSearchCV(NEIGHBORS, space, **more).fit(arrays.x_train, arrays.y_train),
    )


def test_a_search_that_fails_says_why(client: tunewell.Client) -> None:
    many = {"kneighborsclassifier__n_neighbors": [500]}
    with pytest.raises(tunewell.Error, match="n_neighbors"):
        GridSearch(NEIGHBORS, many, cv=2, client=client).fit(dataset="iris")
