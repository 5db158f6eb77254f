"""A fit that is in the database is not trained again, whichever job it was trained for."""

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from app.main import create_app
from tests.conftest import IdleHousekeeper
from tests.worker.test_runner import run

pytest.importorskip("tensorflow", reason="TensorFlow is not installed")

from worker import fit
from worker.compiled import trainer

GRID: dict[str, Any] = {
    "dataset": {"name": "digits", "train_samples": 200, "test_samples": 50},
    "search": {"strategy": "grid", "param_grid": {"learning_rate": [0.001, 0.01]}},
    "fixed": {"num_neurons": 8, "filters": 4, "epochs": 2},
    "evaluation": {"cv": 2},
}


class Trained:
    """A service, and how many epochs its workers have really trained."""

    def __init__(self, engine: Engine, client: TestClient) -> None:
        self.engine, self.client, self.epochs = engine, client, 0

    def train(self, changes: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """The job, its results without times, and its best, after training it."""
        posted = self.client.post("/v1/jobs", json={**GRID, **changes})
        assert posted.status_code == 202, posted.text
        run(self.engine, fit.train_fit, most=100)
        address = f"/v1/jobs/{posted.json()['id']}"
        results = self.client.get(f"{address}/results").json()
        table = {name: column for name, column in results.items() if "time" not in name}
        return self.client.get(address).json(), table, self.client.get(f"{address}/best").json()


@pytest.fixture
def service(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Trained]:
    with TestClient(create_app(engine, IdleHousekeeper)) as client:
        counted = Trained(engine, client)
        train_epoch = trainer._Fit.train_epoch

        def count(one: Any) -> Any:
            counted.epochs += 1
            return train_epoch(one)

        monkeypatch.setattr(trainer._Fit, "train_epoch", count)
        yield counted


def test_the_same_job_again_trains_nothing_and_has_the_same_table(service: Trained) -> None:
    job, table, best = service.train({})
    assert (service.epochs, job["epochs_trained"], job["epochs_reused"]) == (10, 10, 0)
    again, same, best_again = service.train({})
    assert (service.epochs, again["epochs_trained"], again["epochs_reused"]) == (10, 0, 10)
    assert same == table
    differing = {name for name in best if best[name] != best_again[name]}
    assert differing <= {"job_id"}
    fits = service.client.get(f"/v1/jobs/{again['id']}/trials/0").json()["fits"]
    assert all(one["cached"] and len(one["history"]) == 2 for one in fits if one["fold"] is not None)


def test_fewer_epochs_are_a_part_of_more(service: Trained) -> None:
    _, expected, _ = service.train({"fixed": {**GRID["fixed"], "epochs": 1}, "limits": {"reuse": False}})
    trained = service.epochs
    service.train({"limits": {"reuse": False}})
    before = service.epochs
    job, table, _ = service.train({"fixed": {**GRID["fixed"], "epochs": 1}})
    assert table == expected
    assert (trained, service.epochs - before, job["epochs_reused"]) == (5, 0, 5)


@pytest.mark.parametrize(
    "changes",
    [
        {"limits": {"reuse": False}},
        {"random_state": 1},
        {"evaluation": {"cv": 3}},
        {"evaluation": {"validation_split": 0.5}},
        {"dataset": {"name": "digits", "train_samples": 220, "test_samples": 50}},
        {"fixed": {**GRID["fixed"], "dropout_rate": 0.25}},
    ],
    ids=str,
)
def test_whatever_would_train_differently_is_trained(service: Trained, changes: dict[str, Any]) -> None:
    service.train({})
    service.epochs = 0
    job, _, _ = service.train(changes)
    assert service.epochs == job["epochs_trained"] > 0
    # With other folds the same trial may win, whose refit is the same.
    assert job["epochs_reused"] in ((0, 2) if "evaluation" in changes else (0,))


def test_more_epochs_than_were_trained_are_trained(service: Trained) -> None:
    service.train({})
    job, _, _ = service.train({"fixed": {**GRID["fixed"], "epochs": 3}})
    assert (job["epochs_trained"], job["epochs_reused"]) == (15, 0)


def test_the_refit_of_other_test_samples_is_trained_and_the_folds_are_not(service: Trained) -> None:
    service.train({})
    job, _, _ = service.train({"dataset": {"name": "digits", "train_samples": 200, "test_samples": 60}})
    assert (job["epochs_trained"], job["epochs_reused"]) == (2, 8)


def test_repeats_train_each_fold_with_another_seed(service: Trained) -> None:
    _, once, _ = service.train({"evaluation": {"cv": 2}})
    job, twice, best = service.train({"evaluation": {"cv": 2, "repeats": 2}})
    assert job["fits"]["total"] == 9
    assert [twice[f"split{fold}_test_score"] for fold in (0, 1)] == [once[f"split{fold}_test_score"] for fold in (0, 1)]
    assert twice["split2_test_score"] != twice["split0_test_score"]
    assert len(best["validation"]["fold_accuracies"]) == 4


def test_the_best_says_what_cannot_be_told_from_it(service: Trained) -> None:
    grid = {"learning_rate": [0.01, 0.0100001, 1e-9]}
    fixed = {"epochs": 10, "num_neurons": 32, "filters": 4}
    _, table, best = service.train({"search": {"strategy": "grid", "param_grid": grid}, "fixed": fixed})
    assert table["mean_test_score"][0] - table["mean_test_score"][2] > 0.2
    assert best["selection"] == {"rule": "best", "n_compared": 3}
    assert {*best["tied"], best["trial"]} == {0, 1}
    low, high = best["corrected"]["ci95"]
    assert low < best["corrected"]["accuracy"] <= best["validation"]["mean_accuracy"] + 0.02 < high + 0.1


def test_the_cheapest_within_one_standard_error_wins(service: Trained) -> None:
    search = {"strategy": "grid", "param_grid": {"num_neurons": [64, 63]}}
    fixed = {"filters": 4, "epochs": 2, "learning_rate": 0.01}
    evaluation = {"cv": 4, "select": "one_standard_error"}
    _, table, best = service.train({"search": search, "fixed": fixed, "evaluation": evaluation})
    means, spread = table["mean_test_score"], table["std_test_score"]
    winner = max((0, 1), key=lambda trial: (means[trial], -trial))
    error = spread[winner] * (4 / 3) ** 0.5 / 4**0.5
    expected = 1 if means[1] >= means[winner] - error else 0
    assert (best["trial"], best["selection"]["rule"], best["corrected"]) == (expected, "one_standard_error", None)


def test_a_preview_counts_the_fits_that_are_known(service: Trained) -> None:
    def count(**changes: Any) -> Any:
        return service.client.post("/v1/preview", json={**GRID, **changes}).json()["cached_fits"]

    halving = {**GRID["search"], "strategy": "halving_grid", "max_resources": 2}
    assert count() is None
    service.train({})
    assert count() == 4
    assert count(search={"strategy": "grid", "param_grid": {"learning_rate": [0.001, 0.02, 0.03]}}) == 2
    assert [count(fixed={**GRID["fixed"], "epochs": number}) for number in (1, 2, 3)] == [4, 4, 0]
    assert [count(random_state=1), count(limits={"reuse": False}), count(search=halving)] == [0, 0, 4]
