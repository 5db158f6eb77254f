"""What is converted draws the same candidates; what has no equal is rejected by name."""

import json
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    ParameterGrid,
    ParameterSampler,
    RandomizedSearchCV,
    StratifiedKFold,
)
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import SVC

import tunewell
from app.tuning.search.candidates import draw_candidates
from app.tuning.search.spec import JobSpec
from tunewell.distributions import convert_distribution
from tunewell.searches import convert_search, make_grid, make_random
from tunewell.specs import write_spec

SCALED = make_pipeline(StandardScaler(), SVC())


def draw(spec: Any = None, **fields: Any) -> list[dict[str, Any]]:
    """The candidates that the service makes of it."""
    return [one.params for one in draw_candidates(JobSpec.model_validate_json(write_spec(spec, fields)))]


low = st.floats(1e-4, 0.5)
count = st.integers(1, 50)
values = st.lists(low, min_size=1, max_size=3, unique=True)
space = st.dictionaries(st.sampled_from(["C", "gamma"]), values, min_size=1)


@given(st.tuples(low, low), st.tuples(low, low), st.tuples(count, count), st.integers(0, 2**32 - 1))
def test_scipys_distributions_draw_scikit_learns_candidates(
    rates: tuple[float, float], shares: tuple[float, float], counts: tuple[int, int], seed: int
) -> None:
    space = {
        "learning_rate": stats.loguniform(rates[0], rates[0] + rates[1]),
        "dropout_rate": stats.uniform(shares[0], scale=shares[1] * 0.9),
        "num_neurons": stats.randint(counts[0], high=counts[0] + counts[1]),
        "optimizer": ["adam", "sgd"],
    }
    expected = list(ParameterSampler(space, 4, random_state=np.random.RandomState(seed)))
    search = make_random(space, 4)
    assert draw(dataset="digits", search=search, random_state=seed) == expected
    plain = {"strategy": "random", "n_iter": 4, "param_distributions": space}
    assert draw(dataset="digits", search=plain, random_state=seed) == expected


@pytest.mark.parametrize(
    ("frozen", "document"),
    [
        (stats.uniform(), {"distribution": "uniform", "loc": 0, "scale": 1}),
        (stats.uniform(loc=0.1, scale=0.3), {"distribution": "uniform", "loc": 0.1, "scale": 0.3}),
        (stats.reciprocal(0.001, 0.1), {"distribution": "loguniform", "low": 0.001, "high": 0.1}),
        (stats.loguniform(a=1, b=4, scale=2), {"distribution": "loguniform", "low": 2, "high": 8}),
        (stats.randint(low=16, high=257), {"distribution": "randint", "low": 16, "high": 257}),
        (stats.randint(1, 5, loc=10), {"distribution": "randint", "low": 11, "high": 15}),
        (optuna.distributions.FloatDistribution(0.1, 0.4), {"distribution": "uniform", "low": 0.1, "high": 0.4}),
        (
            optuna.distributions.FloatDistribution(0.1, 0.4, log=True),
            {"distribution": "loguniform", "low": 0.1, "high": 0.4},
        ),
        (optuna.distributions.IntDistribution(1, 8), {"distribution": "randint", "low": 1, "high": 9}),
        (optuna.distributions.IntDistribution(2, 8, step=3), [2, 5, 8]),
        (optuna.distributions.CategoricalDistribution(["adam", "sgd"]), ["adam", "sgd"]),
        ([1, 2], None),
    ],
)
def test_distributions_in_jsons_form(frozen: Any, document: Any) -> None:
    assert convert_distribution(frozen) == document


@given(st.integers(1, 30), st.integers(0, 30), st.integers(1, 7))
def test_optunas_whole_numbers_keep_their_support(low: int, width: int, step: int) -> None:
    given_ = optuna.distributions.IntDistribution(low, low + width - width % step, step=step)
    converted = convert_distribution(given_)
    values = converted if isinstance(converted, list) else range(converted["low"], converted["high"])  # type: ignore[index]
    assert [value for value in range(100) if given_._contains(value)] == [*values]


@pytest.mark.parametrize(
    ("given_", "words"),
    [
        (stats.norm(0, 1), "scipy's norm has no equal"),
        (stats.loguniform(1, 2, loc=1), "loc=1"),
        (optuna.distributions.FloatDistribution(0.0, 1.0, step=0.25), "step=0.25"),
        (optuna.distributions.IntDistribution(1, 8, log=True), "log=True"),
        ("adam", "neither a list"),
        (5, "neither a list"),
    ],
)
def test_what_has_no_equal_is_rejected_by_name(given_: Any, words: str) -> None:
    with pytest.raises(tunewell.CannotConvert, match=f"C: .*{words}.*take uniform|C: .*{words}"):
        make_random({"C": given_})


def test_a_grid_takes_no_distribution() -> None:
    with pytest.raises(tunewell.CannotConvert, match="needs a random search"):
        make_grid({"C": stats.uniform()})


@given(st.lists(space, min_size=1, max_size=3))
def test_a_parameter_grid_keeps_its_candidates(spaces: list[dict[str, list[float]]]) -> None:
    assert draw(dataset="iris", model="svc", search=ParameterGrid(spaces)) == list(ParameterGrid(spaces))


def test_a_grid_search_is_a_job() -> None:
    search = GridSearchCV(
        make_pipeline(StandardScaler(), SVC(kernel="poly", degree=2, random_state=3)),
        {"svc__C": np.logspace(-1, 1, 3), "svc__class_weight": [None, "balanced"]},
        scoring="f1_macro",
        cv=StratifiedKFold(4),
    )
    assert convert_search(search) == {
        "model": "svc",
        "fixed": {"kernel": "poly", "degree": 2},
        "search": {"strategy": "grid", "param_grid": {"C": [0.1, 1.0, 10.0], "class_weight": ["none", "balanced"]}},
        "random_state": 3,
        "evaluation": {"cv": 4, "refit": True, "scoring": "f1_macro"},
    }
    assert len(draw(search, dataset="digits")) == 6
    assert json.loads(write_spec(search, {"dataset": "iris"}))["dataset"] == {"name": "iris"}


def test_a_randomized_search_draws_the_same_candidates() -> None:
    space = {"max_depth": [None, 2, 4], "max_features": stats.uniform(0.1, 0.5), "n_estimators": stats.randint(2, 9)}
    search = RandomizedSearchCV(RandomForestClassifier(), space, n_iter=5, random_state=11, cv=3)
    expected = [{**one, "max_depth": one["max_depth"] or 0} for one in ParameterSampler(space, 5, random_state=11)]
    assert draw(search, dataset="iris") == expected


@pytest.mark.parametrize(
    ("search", "words"),
    [
        (GridSearchCV(SVC(), {"C": [1]}), r"make_pipeline\(StandardScaler\(\), SVC\(\)\)"),
        (GridSearchCV(make_pipeline(MinMaxScaler(), SVC()), {"svc__C": [1]}), "StandardScaler"),
        (
            GridSearchCV(
                make_pipeline(StandardScaler(), RandomForestClassifier()), {"randomforestclassifier__max_depth": [1]}
            ),
            "alone",
        ),
        (GridSearchCV(MinMaxScaler(), {"clip": [True]}), "Tunewell has no MinMaxScaler: it has Hist"),
        (GridSearchCV(SCALED, {"svc__C": [1]}, cv=KFold(3, shuffle=True)), "cv must be"),
        (GridSearchCV(SCALED, {"svc__C": [1]}, scoring=["f1", "accuracy"], refit="f1"), "refit='f1'"),
        (GridSearchCV(SCALED, {"svc__C": [1]}, scoring=["f1"], refit=False), "name of one scorer"),
        (GridSearchCV(SCALED, {"standardscaler__with_mean": [True]}), "only parameters of the last step"),
        (GridSearchCV(SCALED, {"svc__C": [None]}), "C=None"),
        (GridSearchCV(SCALED, {"svc__C": [{}]}), "numbers and text"),
        (
            RandomizedSearchCV(
                make_pipeline(StandardScaler(), LogisticRegression(random_state=1)),
                {"logisticregression__C": [1]},
                random_state=2,
            ),
            "one random_state",
        ),
        (
            RandomizedSearchCV(SCALED, {"svc__C": [1]}, random_state=np.random.RandomState(1)),
            "whole number",
        ),
        (KFold(3), "KFold has no converter"),
    ],
)
def test_searches_without_an_equal_are_rejected(search: Any, words: str) -> None:
    with pytest.raises(tunewell.CannotConvert, match=words):
        convert_search(search)


def test_what_is_posted() -> None:
    assert write_spec('{"search": {}, "search": {}}', {}) == b'{"search": {}, "search": {}}'
    with pytest.raises(TypeError, match="keywords"):
        write_spec("{}", {"model": "svc"})
    posted = json.loads(write_spec({"model": "cnn", "fixed": {"epochs": np.int64(3)}}, {"model": "svc", "labels": {}}))
    assert posted == {"model": "svc", "fixed": {"epochs": 3}, "labels": {}}
    assert json.loads(write_spec(None, {"search": {"values": np.arange(2), "others": range(2)}}))["search"] == {
        "values": [0, 1],
        "others": [0, 1],
    }
    with pytest.raises(ValueError, match="NaN"):
        write_spec({"fixed": {"C": float("nan")}}, {})
    with pytest.raises(TypeError, match="no form in JSON"):
        write_spec({"model": KNeighborsClassifier()}, {})
