"""`POST /v1/preview`: the figures of a job, with nothing written; what POST rejects, it rejects."""

from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, func, select

from app.tuning.database import reading, writing
from app.tuning.jobs.tables import Job, Table
from tests.support.driving import ARTICLE, drive, grid, post, steady

NEURONS = [{"num_neurons": list(range(1, 28))}]
HALVING = {
    "dataset": {"name": "digits"},
    "search": {"strategy": "halving_grid", "param_grid": NEURONS, "max_resources": 9},
    "evaluation": {"cv": 3, "refit": False},
}
HYPERBAND = {
    "dataset": {"name": "digits"},
    "search": {
        "strategy": "hyperband",
        "param_distributions": {"learning_rate": {"distribution": "loguniform", "low": 0.001, "high": 0.1}},
        "max_resources": 9,
    },
}
DRAWN: dict[str, Any] = {
    "dataset": {"name": "digits"},
    "search": {
        "strategy": "random",
        "n_iter": 12,
        "param_distributions": {
            "dropout_rate": {"distribution": "uniform", "loc": 0.1, "scale": 0.3},
            "num_neurons": {"distribution": "randint", "low": 16, "high": 257},
            "epochs": [1, 3],
        },
        "forbidden": [{"dropout_rate": {"gt": 0.3}}],
    },
    "evaluation": {"validation_split": 0.1},
}
BAD: list[dict[str, Any]] = [
    {},
    {"search": {"strategy": "grid"}},
    {"search": {"strategy": "grid", "param_grid": {"units": [1]}}},
    {"search": {"strategy": "grid", "param_grid": {"epochs": ["1"]}}},
    {"search": {"strategy": "grid", "param_grid": {"momentum": [0.5]}}},
    {"search": {"strategy": "grid", "param_grid": {"kernel_size": [7], "conv_blocks": [1, 3]}}},
    {"search": {"strategy": "grid", "param_grid": {"num_neurons": list(range(1, 4000)), "filters": [1, 2, 3]}}},
    {"search": {"strategy": "grid", "param_grid": {"l1": [0]}, "forbidden": [{"l1": {"gte": 0}}]}},
    {"search": {"strategy": "grid", "param_grid": {"l1": [0]}, "forbidden": [{"l1": 0}]}},
    {"search": {"strategy": "halving_grid", "param_grid": {"l1": [0]}, "rung_levels": [3, 1]}},
    {"search": {"strategy": "hyperband", "param_distributions": {"l1": [0, 1]}}},
    {**grid(2), "dataset": {"name": "digits", "train_samples": 2000}},
    {**grid(2), "evaluation": {"cv": 1}},
    {**grid(2), "unknown": 1},
]


def preview(client: TestClient, spec: dict[str, Any]) -> dict[str, Any]:
    response = client.post("/v1/preview", json=spec)
    assert response.status_code == 200, response.text
    shown: dict[str, Any] = response.json()
    return shown


def count_rows(engine: Engine) -> dict[str, int]:
    with reading(engine) as session:
        return {
            table.name: session.scalar(select(func.count()).select_from(table)) or 0
            for table in Table.metadata.sorted_tables
        }


@pytest.mark.parametrize("spec", [ARTICLE, HALVING, HYPERBAND, DRAWN])
def test_a_preview_equals_the_job_and_writes_nothing(client: TestClient, engine: Engine, spec: dict[str, Any]) -> None:
    shown = preview(client, spec)
    assert set(count_rows(engine).values()) == {0}
    job = post(client, spec)
    assert (shown["trials"], shown["fits"]) == (job["trials"]["total"], job["fits"]["total"])
    assert (shown["skipped"], shown["rungs"]) == (job["skipped"], job["rungs"])
    trials = client.get(f"/v1/jobs/{job['id']}/trials", params={"page_size": 10}).json()["items"]
    assert shown["first"] == [trial["params"] for trial in trials]
    with reading(engine) as session:
        assert shown["multiply_adds"] == session.scalars(select(Job.cost_left)).one()
    assert (shown["seconds"], shown["cached_fits"]) == (None, None)
    assert shown["infeasible"] == {"count": 0, "first": []}


@pytest.mark.parametrize("body", BAD)
def test_what_post_rejects_is_rejected_in_the_same_words(client: TestClient, body: dict[str, Any]) -> None:
    response = client.post("/v1/preview", json=body)
    assert response.status_code == 422
    assert response.json() == client.post("/v1/jobs", json=body).json()


def test_broken_json_is_rejected(sqlite_client: TestClient) -> None:
    response = sqlite_client.post("/v1/preview", content=b"{", headers={"Content-Type": "application/json"})
    assert response.status_code == 422
    assert sqlite_client.post("/v1/preview", content=b"{}", headers={"Content-Type": "text/plain"}).status_code == 415


def test_a_grid(sqlite_client: TestClient) -> None:
    """27 candidates on 3 folds and a refit, 2 epochs each."""
    shown = preview(sqlite_client, ARTICLE)
    assert (shown["trials"], shown["fits"], shown["epochs"], shown["epochs_at_most"]) == (27, 82, 164, 164)
    assert (shown["duplicates"], shown["skipped"], shown["checkpoint_bytes"], shown["rungs"]) == (0, 0, 0, [])
    assert shown["supports"] == [
        {
            "learning_rate": "one of 3: 0.01, 0.05, 0.1",
            "dropout_rate": "one of 3: 0.1, 0.2, 0.3",
            "num_neurons": "one of 3: 128, 256, 512",
        }
    ]
    assert len(shown["first"]) == 10


def test_a_random_search(sqlite_client: TestClient) -> None:
    """On one split; the refit may be of the longest candidate."""
    shown = preview(sqlite_client, DRAWN)
    assert (shown["trials"], shown["fits"]) == (12, 13)
    assert shown["skipped"] > 0
    assert 12 + 1 <= shown["epochs"] == shown["epochs_at_most"] <= 13 * 3
    assert all(one["dropout_rate"] <= 0.3 for one in shown["first"])
    assert shown["supports"] == [
        {
            "dropout_rate": "a real number from 0.1 to 0.4",
            "num_neurons": "a whole number from 16 to 256",
            "epochs": "one of 2: 1, 3",
        }
    ]


def test_a_halving_search_goes_on_from_its_checkpoints(sqlite_client: TestClient) -> None:
    """27, 9 and 3 candidates of 1, 3 and 9 epochs: 27 + 9 * 2 + 3 * 6 = 63 on each fold, or 27 + 27 + 27 anew."""
    shown = preview(sqlite_client, HALVING)
    assert [(rung["n_candidates"], rung["n_resources"]) for rung in shown["rungs"]] == [(27, 1), (9, 3), (3, 9)]
    assert (shown["fits"], shown["epochs"], shown["epochs_at_most"]) == (39 * 3, 63 * 3, 81 * 3)
    refitted = preview(sqlite_client, {**HALVING, "evaluation": {"cv": 3}})
    assert (refitted["epochs"], refitted["epochs_at_most"]) == (63 * 3 + 9, 81 * 3 + 9)


def test_hyperband(sqlite_client: TestClient) -> None:
    """Brackets of 9, 5 and 3 candidates: 9 of 1, 3 of 3, 1 of 9 epochs; 5 of 3, 1 of 9; 3 of 9."""
    shown = preview(sqlite_client, HYPERBAND)
    rungs = [(one["bracket"], one["n_candidates"], one["n_resources"]) for one in shown["rungs"]]
    assert rungs == [(0, 9, 1), (0, 3, 3), (0, 1, 9), (1, 5, 3), (1, 1, 9), (2, 3, 9)]
    each = (9 * 1 + 3 * 2 + 1 * 6) + (5 * 3 + 1 * 6) + 3 * 9
    anew = 9 * 1 + 3 * 3 + 1 * 9 + 5 * 3 + 1 * 9 + 3 * 9
    assert (shown["trials"], shown["epochs"], shown["epochs_at_most"]) == (17, each * 3 + 9, anew * 3 + 9)
    assert shown["supports"] == [{"learning_rate": "a real number from 0.001 to 0.1, uniform in its logarithm"}]


def test_rungs_of_samples_have_the_candidates_own_epochs(sqlite_client: TestClient) -> None:
    """Six candidates, of 1 or 2 epochs; the second rung has their mean, or at most those of the longest."""
    space = {"epochs": [1, 2], "l1": [0, 0.1, 0.2]}
    search = {"strategy": "halving_grid", "param_grid": space, "resource": "n_samples", "rung_levels": [100, 300]}
    shown = preview(sqlite_client, {**HALVING, "search": search})
    assert [one["n_candidates"] for one in shown["rungs"]] == [6, 2]
    assert (shown["epochs"], shown["epochs_at_most"]) == ((9 + 3) * 3, (9 + 4) * 3)
    assert shown["checkpoint_bytes"] == 0


def test_candidates_that_are_equal_with_all_defaults_are_duplicates(sqlite_client: TestClient) -> None:
    """0.5 is the default of `dropout_rate`."""
    search = {"strategy": "grid", "param_grid": [{"dropout_rate": [0.5, 0.4, 0.4]}, {"l1": [0, 0.0, 0.1]}]}
    assert preview(sqlite_client, {"search": search})["duplicates"] == 3


def test_long_lists_are_cut(sqlite_client: TestClient) -> None:
    shown = preview(sqlite_client, {"search": {"strategy": "grid", "param_grid": NEURONS[0] | {"filters": [8]}}})
    neurons = "one of 27: 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, …"
    assert shown["supports"] == [{"num_neurons": neurons, "filters": "8"}]


def test_the_time_is_that_of_the_fastest_and_of_the_slowest_job(client: TestClient, engine: Engine) -> None:
    fast, slow, other = (post(client, grid(1))["id"] for _ in range(3))
    for job_id in (fast, slow):
        drive(engine, job_id, steady)
    with writing(engine) as session:
        jobs = {str(job.id): job for job in session.scalars(select(Job))}
        for job_id, seconds in ((fast, 20.0), (slow, 30.0), (other, 1.0)):
            jobs[job_id].cost_done, jobs[job_id].seconds_done = 1e10, seconds
    shown = preview(client, grid(3))
    assert shown["seconds"] == {
        "low": pytest.approx(shown["multiply_adds"] * 20 / 1e10),
        "high": pytest.approx(shown["multiply_adds"] * 30 / 1e10),
    }
    with writing(engine) as session:
        for job in session.scalars(select(Job)):
            job.spec = {**job.spec, "model": "of_tomorrow"}
    assert preview(client, grid(3))["seconds"] is None
