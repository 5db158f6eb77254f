"""Importance: exact on full grids, like Optuna's PED-ANOVA on samples, and silent where too little is known."""

import itertools
import warnings
from typing import Any

import numpy as np
import pytest

from app.tuning.search.importance import Importance, measure_importance
from app.tuning.search.models import Value
from app.tuning.search.spaces import LogUniform, RandInt, Uniform

optuna = pytest.importorskip("optuna", reason="Optuna is not installed")
SPACES: dict[str, Any] = {
    "learning_rate": LogUniform(distribution="loguniform", low=0.001, high=0.1),
    "dropout_rate": Uniform(distribution="uniform", low=0.1, high=0.4),
    "num_neurons": RandInt(distribution="randint", low=16, high=257),
    "filters": RandInt(distribution="randint", low=1, high=9),
    "optimizer": ["adam", "sgd", "rmsprop"],
}


def measure(params: list[dict[str, Value]], scores: Any, spaces: Any = None) -> Importance:
    table = np.asarray(scores, dtype=np.float64)
    found = measure_importance(params, table if table.ndim == 2 else table[:, None], spaces or {})
    assert isinstance(found, Importance), found
    return found


def grid(**levels: list[Value]) -> list[dict[str, Value]]:
    return [dict(zip(levels, values, strict=True)) for values in itertools.product(*levels.values())]


def sample(count: int, seed: int) -> tuple[list[dict[str, Value]], Any]:
    """Draws from all kinds of space, and accuracies that the learning rate and the optimizer decide."""
    random = np.random.RandomState(seed)
    draws = [
        {
            name: space[random.randint(3)] if isinstance(space, list) else space.rvs(random)
            for name, space in SPACES.items()
        }
        for _ in range(count)
    ]
    losses = [abs(np.log10(one["learning_rate"]) + 2) + 0.3 * (one["optimizer"] == "sgd") for one in draws]
    return draws, 1 - 0.2 * np.array(losses) + random.normal(scale=0.01, size=count)


def test_on_a_grid_shares_are_those_of_the_variance() -> None:
    levels: dict[str, list[Value]] = {"a": [0, 1, 2, 3, 4], "b": ["x", "y"], "c": [0.5, 1.5]}
    params = grid(**levels)
    a, b, c = (np.array([levels[name].index(one[name]) for one in params], dtype=np.float64) for name in levels)
    b, c = 2 * b - 1, 2 * c - 1
    found = measure(params, 3 * (a - 2) + 2 * b + b * c)
    # Variances: 9 * 2 of a, 4 of b, nothing of c, and 1 of b and c together.
    assert [one.names for one in found.effects] == [("a",), ("b",), ("c",)]
    assert {one.low for one in found.effects} == {None}, "a single fold says nothing of its scatter"
    assert [one.share for one in found.effects] == pytest.approx([18 / 23, 4 / 23, 0])
    assert found.pairs and found.pairs[0].names == ("b", "c")
    assert [one.share for one in found.pairs] == pytest.approx([1 / 23, 0, 0])
    assert (found.method, found.noise) == ("exact", None)


def test_shares_and_pairs_of_two_hyperparameters_are_all_of_the_variance() -> None:
    params = grid(a=list(range(5)), b=list(range(4)))
    found = measure(params, np.random.default_rng(0).normal(size=20))
    assert sum(one.share for one in [*found.effects, *(found.pairs or [])]) == pytest.approx(1)


def test_the_folds_scatter_is_noise_and_widens_the_intervals() -> None:
    params = grid(a=list(range(6)), b=list(range(4)))
    signal = np.array([[float(str(one["a"]))] for one in params])
    harder = np.array([0.0, 5.0, -3.0])  # for all candidates alike: no noise
    scatter = np.random.default_rng(0).normal(size=(24, 3))
    calm, noisy, chance = (measure(params, table) for table in (signal + harder, signal + scatter, scatter))
    assert calm.noise == pytest.approx(0) and calm.effects[0].share == pytest.approx(1)
    assert (calm.effects[0].low, calm.effects[0].high) == pytest.approx((1, 1))
    assert 0.02 < (noisy.noise or 0) < 0.3 and (chance.noise or 0) > 0.6
    best = noisy.effects[0]
    assert best.names == ("a",) and best.low and best.high and 0.5 < best.low < best.share <= best.high + 0.1 < 1.1


@pytest.mark.parametrize("missing", [True, False], ids=["a point is missing", "a point is there twice"])
def test_what_is_no_full_grid_is_a_sample(missing: bool) -> None:
    params = grid(a=list(range(6)), b=list(range(4)))
    params = params[1:] if missing else [*params[1:], params[1]]
    assert measure(params, np.arange(len(params))).method == "ped_anova"


@pytest.mark.parametrize("count", [20, 100, 1000])
@pytest.mark.parametrize("greater_is_better", [True, False])
def test_a_sample_has_the_importance_that_optuna_finds(count: int, greater_is_better: bool) -> None:
    draws, scores = sample(count, seed=count)
    found = measure(draws, scores if greater_is_better else -scores, SPACES)
    theirs = optunas_importance(draws, scores, "maximize" if greater_is_better else "minimize")
    assert {one.names[0]: one.share for one in found.effects} == pytest.approx(theirs, abs=1e-6)
    assert [one.share for one in found.effects] == sorted((one.share for one in found.effects), reverse=True)


def optunas_importance(draws: list[dict[str, Value]], scores: Any, direction: str) -> dict[str, float]:
    distributions = {
        "learning_rate": optuna.distributions.FloatDistribution(0.001, 0.1, log=True),
        "dropout_rate": optuna.distributions.FloatDistribution(0.1, 0.4),
        "num_neurons": optuna.distributions.IntDistribution(16, 256),
        "filters": optuna.distributions.IntDistribution(1, 8),
        "optimizer": optuna.distributions.CategoricalDistribution(SPACES["optimizer"]),
    }
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction=direction)
    for one, score in zip(draws, scores, strict=True):
        study.add_trial(optuna.trial.create_trial(params=one, distributions=distributions, value=score))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        found: dict[str, float] = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return found


def test_what_matters_stands_out_and_the_interval_says_how_sure_that_is() -> None:
    few, many = (measure(*sample(count, seed=1), SPACES) for count in (30, 2000))
    assert [one.names[0] for one in many.effects[:2]] == ["learning_rate", "optimizer"]
    few_width, many_width = (sum((one.high or 0) - (one.low or 0) for one in found.effects) for found in (few, many))
    assert few_width > many_width > 0
    assert many.effects[0].low is not None and many.effects[0].low > many.effects[2].share
    assert measure(*sample(30, seed=1), SPACES) == few, "the resamples are the same each time"


@pytest.mark.parametrize(
    ("params", "scores", "reason"),
    [
        (grid(a=list(range(19))), np.arange(19), "19 trials have a score on all folds; 20 are needed"),
        ([], np.empty(0), "0 trials"),
        (grid(a=list(range(20))), np.ones(20), "the same score"),
        ([{"a": 1}] * 20, np.arange(20), "the same hyperparameters"),
    ],
)
def test_where_too_little_is_known_it_says_so(params: Any, scores: Any, reason: str) -> None:
    found = measure_importance(params, scores[:, None], {})
    assert isinstance(found, str) and reason in found


def test_points_outside_of_the_space_count_at_its_end() -> None:
    draws, scores = sample(50, seed=3)
    draws[0] = {**draws[0], "num_neurons": 512, "learning_rate": 0.0001}
    assert sum(one.share for one in measure(draws, scores, SPACES).effects) == pytest.approx(1)
