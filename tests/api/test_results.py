"""A job's results over REST: its best trial, its trials with their fits, and `cv_results_`."""

import csv
import io
import json
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, update

from app.tuning.database import writing
from app.tuning.jobs.tables import Job
from tests.support.driving import BROKEN, ENVIRONMENT, EPOCHS, MOMENT, Folds, claim, drive, grid, post, scores, steady

TIES: Folds = {0: [0.5, 0.5, 0.5], 1: [0.625, 0.75, 0.875], 2: [0.875, 0.75, 0.625], 3: [0.9, None, 0.9]}


def best(client: TestClient, job_id: str) -> dict[str, Any]:
    response = client.get(f"/v1/jobs/{job_id}/best")
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def trials(client: TestClient, job_id: str, query: str = "") -> list[dict[str, Any]]:
    response = client.get(f"/v1/jobs/{job_id}/trials?{query}")
    assert response.status_code == 200, response.text
    items: list[dict[str, Any]] = response.json()["items"]
    return items


def test_best_is_a_conflict_while_no_trial_has_succeeded(client: TestClient, engine: Engine) -> None:
    job_id = post(client, grid(2))["id"]
    for done in (0, 2):
        drive(engine, job_id, steady, fits=done)
        response = client.get(f"/v1/jobs/{job_id}/best")
        assert response.status_code == 409
        assert response.headers["Content-Type"] == "application/problem+json"
        assert response.headers["Retry-After"]


def test_best_is_a_conflict_when_all_trials_failed(client: TestClient, engine: Engine) -> None:
    job_id = post(client, grid(2))["id"]
    drive(engine, job_id, lambda _: None)
    response = client.get(f"/v1/jobs/{job_id}/best")
    assert (response.status_code, "Retry-After" in response.headers) == (409, False)


def test_the_best_so_far_is_not_final_and_has_no_test(client: TestClient, engine: Engine) -> None:
    job_id = post(client, grid(2))["id"]
    drive(engine, job_id, steady, fits=3)
    found = best(client, job_id)
    assert (found["final"], found["trial"], found["test"], found["refit_seconds"]) == (False, 0, None, None)
    assert found["environment"] == ENVIRONMENT


def test_the_processor_is_null_for_jobs_of_older_versions(client: TestClient, engine: Engine) -> None:
    job_id = post(client, grid(2))["id"]
    drive(engine, job_id, steady, fits=3)
    older = {name: value for name, value in ENVIRONMENT.items() if name != "processor"}
    with writing(engine) as session:
        session.execute(update(Job).values(environment=older))
    assert best(client, job_id)["environment"] == {**older, "processor": None}


def test_the_best_is_final_once_it_is_refitted_and_tested(client: TestClient, engine: Engine) -> None:
    job_id = post(client, grid(2))["id"]
    drive(engine, job_id, scores({0: [0.5, 0.5, 0.5], 1: [0.6, 0.7, 0.8]}, refit=0.9))
    found = best(client, job_id)
    assert found == {
        "job_id": job_id,
        "final": True,
        "trial": 1,
        "params": {"learning_rate": 0.0002},
        "validation": {
            "scoring": "accuracy",
            "mean_score": found["validation"]["mean_accuracy"],
            "std_score": found["validation"]["std_accuracy"],
            "fold_scores": [0.6, 0.7, 0.8],
            "mean_accuracy": pytest.approx(0.7),
            "std_accuracy": pytest.approx((2 / 300) ** 0.5),  # population standard deviation
            "fold_accuracies": [0.6, 0.7, 0.8],
        },
        "selection": {"rule": "best", "n_compared": 2},
        "tied": None,
        "corrected": None,
        "test": {
            "score": 0.9,
            "accuracy": 0.9,
            "loss": pytest.approx(0.1),
            "samples": 360,
            # Wilson's interval for 324 of 360, calculated by hand.
            "accuracy_ci95": [pytest.approx(0.864663, abs=1e-6), pytest.approx(0.926890, abs=1e-6)],
            "confusion": None,
        },
        "refit_seconds": 2.0,
        "environment": ENVIRONMENT,
    }


def test_the_first_of_tied_candidates_is_best_in_any_order_of_completion(client: TestClient, engine: Engine) -> None:
    # Expensive trials are claimed first: the last candidate ends before the first.
    search = {"strategy": "grid", "param_grid": {"num_neurons": [8, 16, 32]}}
    job_id = post(client, grid(1, search=search))["id"]
    drive(engine, job_id, lambda _: 0.75, fits=3)
    assert best(client, job_id)["trial"] == 2
    drive(engine, job_id, lambda _: 0.75)
    assert best(client, job_id)["trial"] == 0


def test_a_trial_with_a_failed_fold_is_never_best(client: TestClient, engine: Engine) -> None:
    job_id = post(client, grid(2))["id"]
    drive(engine, job_id, scores({0: [0.5, 0.5, 0.5], 1: [0.9, None, 0.9]}))
    assert best(client, job_id)["trial"] == 0


def test_without_refit_the_best_is_final_and_untested(client: TestClient, engine: Engine) -> None:
    job_id = post(client, grid(1, evaluation={"validation_split": 0.25, "refit": False}))["id"]
    drive(engine, job_id, lambda _: 0.75)
    found = best(client, job_id)
    assert (found["final"], found["test"], found["refit_seconds"]) == (True, None, None)
    assert found["validation"] == {
        "scoring": "accuracy",
        **{"mean_score": 0.75, "std_score": 0.0, "fold_scores": [0.75]},
        **{"mean_accuracy": 0.75, "std_accuracy": 0.0, "fold_accuracies": [0.75]},
    }


def test_the_best_of_a_cancelled_or_failed_job_is_not_final(client: TestClient, engine: Engine) -> None:
    cancelled, failed = (post(client, grid(2))["id"] for _ in range(2))
    drive(engine, cancelled, steady, fits=3)
    client.post(f"/v1/jobs/{cancelled}/cancel")
    drive(engine, failed, scores({0: [0.5] * 3, 1: [0.6] * 3}, refit=None))
    assert [best(client, job_id)["final"] for job_id in (cancelled, failed)] == [False, False]
    assert client.get(f"/v1/jobs/{failed}").json()["state"] == "failed"


def test_the_test_uses_the_requested_samples(client: TestClient, engine: Engine) -> None:
    job_id = post(client, grid(1, dataset={"name": "digits", "test_samples": 100}))["id"]
    drive(engine, job_id, steady)
    assert best(client, job_id)["test"]["samples"] == 100


def test_trials_rank_as_in_scikit_learn_and_failed_ones_have_no_rank(client: TestClient, engine: Engine) -> None:
    job_id = post(client, grid(5, limits={"max_parallel_fits": 1}))["id"]
    drive(engine, job_id, scores(TIES), fits=12)
    found = trials(client, job_id)
    assert [trial["rank"] for trial in found] == [3, 1, 1, None, None]
    assert [trial["state"] for trial in found] == ["succeeded"] * 3 + ["failed", "queued"]
    assert found[1] == {
        "number": 1,
        "state": "succeeded",
        "params": {"learning_rate": 0.0002},
        "origin": "search",
        "bracket": 0,
        "iter": 0,
        "n_resources": None,
        "validation_score": 0.75,
        "validation_score_std": found[1]["validation_accuracy_std"],
        "validation_accuracy": 0.75,
        "validation_accuracy_std": pytest.approx((2 / 3) ** 0.5 / 8),
        "rank": 1,
        "fit_seconds": 6.0,
        "error": None,
    }
    assert (found[3]["validation_accuracy"], found[3]["error"]) == (None, BROKEN)


def test_trials_without_accuracy_are_sorted_last(client: TestClient, engine: Engine) -> None:
    job_id = post(client, grid(5))["id"]
    drive(engine, job_id, scores(TIES), fits=12)
    for sort, order in (
        ("number", [0, 1, 2, 3, 4]),
        ("-validation_accuracy", [1, 2, 0, 3, 4]),
        ("validation_accuracy", [0, 1, 2, 3, 4]),
        ("-validation_score", [1, 2, 0, 3, 4]),
        ("validation_score", [0, 1, 2, 3, 4]),
    ):
        assert [trial["number"] for trial in trials(client, job_id, f"sort={sort}")] == order
    assert [trial["number"] for trial in trials(client, job_id, "state=failed")] == [3]
    assert [trial["number"] for trial in trials(client, job_id, "state=queued&sort=validation_accuracy")] == [4]


def test_a_trial_shows_its_fits_with_their_histories_and_errors(client: TestClient, engine: Engine) -> None:
    job_id = post(client, grid(2))["id"]
    drive(engine, job_id, scores({0: [0.5, None, 0.5], 1: [0.6, 0.6, 0.6]}), fits=3)
    claim(engine, job_id)
    shown = client.get(f"/v1/jobs/{job_id}/trials/0").json()
    listed = trials(client, job_id)[0]
    fits = shown.pop("fits")
    assert shown == listed
    assert [(fit["fold"], fit["state"]) for fit in fits] == [(0, "succeeded"), (1, "failed"), (2, "succeeded")]
    assert MOMENT.fullmatch(fits[0].pop("started_at")) and MOMENT.fullmatch(fits[0].pop("ended_at"))
    assert fits[0] == {
        "fold": 0,
        "n_resources": None,
        "cached": False,
        "resumed_from": None,
        "state": "succeeded",
        "attempt": 1,
        "score": 0.5,
        "accuracy": 0.5,
        "loss": 0.5,
        "history": EPOCHS,
        "fit_seconds": 2.0,
        "worker": "w1@here",
        "error": None,
    }
    assert (fits[1]["error"], fits[1]["history"], fits[1]["accuracy"]) == (BROKEN, [], None)
    running = client.get(f"/v1/jobs/{job_id}/trials/1").json()
    assert [fit["state"] for fit in running["fits"]] == ["running", "queued", "queued"]
    assert [fit["attempt"] for fit in running["fits"]] == [1, 0, 0]


def test_the_refit_is_the_best_trials_last_fit_and_has_no_fold(client: TestClient, engine: Engine) -> None:
    job_id = post(client, grid(2))["id"]
    drive(engine, job_id, steady)
    folds = [[fit["fold"] for fit in client.get(f"/v1/jobs/{job_id}/trials/{n}").json()["fits"]] for n in (0, 1)]
    assert folds == [[0, 1, 2], [0, 1, 2, None]]


def test_the_results_have_the_keys_of_cv_results(client: TestClient, engine: Engine) -> None:
    search = {"strategy": "grid", "param_grid": [{"l1": [0.5]}, {"l2": [0.25], "optimizer": ["sgd"]}, {"l1": [1]}]}
    job_id = post(client, grid(1, search=search))["id"]
    assert client.get(f"/v1/jobs/{job_id}/results").json()["params"] == []
    drive(engine, job_id, scores({0: [0.5, 0.5, 0.5], 1: [0.75, 0.25, None], 2: []}), fits=6)
    table = client.get(f"/v1/jobs/{job_id}/results").json()
    failed = client.get(f"/v1/jobs/{job_id}/trials/1").json()
    seconds = [fit["fit_seconds"] for fit in failed["fits"]]
    assert seconds[:2] == [2.0, 2.0] and seconds[2] >= 0 and failed["fit_seconds"] == sum(seconds)
    assert table == {
        "mean_fit_time": [2.0, float(np.mean(seconds))],
        "std_fit_time": [0.0, float(np.std(seconds))],
        "mean_score_time": [0.25, float(np.mean([0.25, 0.25, 0.0]))],
        "std_score_time": [0.0, float(np.std([0.25, 0.25, 0.0]))],
        "param_l1": [0.5, None],
        "param_l2": [None, 0.25],
        "param_optimizer": [None, "sgd"],
        "params": [{"l1": 0.5}, {"l2": 0.25, "optimizer": "sgd"}],
        "split0_test_score": [0.5, 0.75],
        "split1_test_score": [0.5, 0.25],
        "split2_test_score": [0.5, None],
        "mean_test_score": [0.5, None],
        "std_test_score": [0.0, None],
        "rank_test_score": [1, 2],
    }
    response = client.get(f"/v1/jobs/{job_id}/results?format=csv")
    assert response.headers["Content-Type"].startswith("text/csv")
    lines = list(csv.DictReader(io.StringIO(response.text)))
    assert [line["param_optimizer"] for line in lines] == ["", "sgd"]
    assert [json.loads(line["params"]) for line in lines] == table["params"]
    assert list(lines[0]) == list(table)
    assert [float(line["split0_test_score"]) for line in lines] == table["split0_test_score"]
