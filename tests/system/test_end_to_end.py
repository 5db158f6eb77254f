"""End to end: real processes, a real broker and real training, from the POST to the best trial."""

import json
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import reciprocal, uniform
from sklearn.model_selection import ParameterSampler

from app.tuning.settings import settings
from tests.support.live import PROJECT, Live, live
from tests.support.servers import Broker, Postgres, missing

pytestmark = pytest.mark.timeout(600)
GRID = {
    "dataset": {"name": "digits", "train_samples": 600},
    "search": {"strategy": "grid", "param_grid": {"learning_rate": [0.001, 0.01], "dropout_rate": [0.25, 0.5]}},
    "fixed": {"epochs": 4, "batch_size": 8, "num_neurons": 32, "filters": 8},
    "evaluation": {"cv": 3},
    "random_state": 7,
    "limits": {"reuse": False},
}
MAX_GROWTH_MEBIBYTES = 30
MEASURED = {"seconds", "fit_seconds", "refit_seconds", "started_at", "ended_at", "worker", "attempt", "job_id"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("end-to-end")


@pytest.fixture(scope="module")
def alone(folder: Path, broker: Broker) -> Iterator[Live]:
    """The service on SQLite, with one worker at first."""
    home = folder / "alone"
    with live(home, f"sqlite:///{home / 'tunewell.db'}", broker.url, workers=1) as service:
        yield service


@pytest.fixture(scope="module")
def found(alone: Live) -> Any:
    """The results of one worker on SQLite."""
    return trained(alone)


def trained(service: Live) -> Any:
    """All results of the grid, without measured times."""
    path = service.post(GRID)
    job = service.wait(path)
    assert (job["state"], job["error"]) == ("succeeded", None)
    trials = [service.get(f"{path}/trials/{number}") for number in range(4)]
    assert all(fit["state"] == "succeeded" for trial in trials for fit in trial["fits"])
    return drop_measured([service.get(f"{path}/best"), *trials])


def drop_measured(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: drop_measured(one) for name, one in value.items() if name not in MEASURED}
    return [drop_measured(one) for one in value] if isinstance(value, list) else value


def workers(service: Live) -> set[str]:
    """The workers that have trained something."""
    jobs = service.get("/v1/jobs?page_size=100")["items"]
    trials = [
        service.get(f"/v1/jobs/{job['id']}/trials/{number}") for job in jobs for number in range(job["trials"]["total"])
    ]
    return {fit["worker"] for trial in trials for fit in trial["fits"] if fit["worker"]}


def agrees(service: Live, found: Any) -> bool:
    """Train the grid again and compare the results; True once two workers have trained fits."""
    assert trained(service) == found
    return len(workers(service)) == 2


def test_a_job_is_trained_and_its_best_is_evaluated_on_the_test_set(found: Any) -> None:
    best, *trials = found
    assert best["final"]
    assert best["test"]["samples"] == 360
    assert best["test"]["accuracy"] > 0.6
    assert best["validation"]["mean_accuracy"] == max(trial["validation_accuracy"] for trial in trials)
    assert [trial["params"] for trial in trials] == [
        {"dropout_rate": dropout_rate, "learning_rate": learning_rate}
        for dropout_rate in (0.25, 0.5)
        for learning_rate in (0.001, 0.01)
    ]
    assert all(len(fit["history"]) == 4 for trial in trials for fit in trial["fits"])
    versions = best["environment"]
    assert versions["python"] == ".".join(map(str, sys.version_info[:3]))
    assert all(versions.values())


def test_two_workers_find_identical_results(alone: Live, found: Any) -> None:
    alone.start_worker("w2")
    alone.wait(alone.post(GRID | {"random_state": 8}))  # while this is trained, the second worker starts
    alone.until(lambda: agrees(alone, found), 120)


def test_postgresql_and_two_workers_find_identical_results(
    folder: Path, broker: Broker, postgres: Postgres, found: Any
) -> None:
    url = broker.url.replace("/0", "/1")
    with live(folder / "postgresql", postgres.new_database(), url, workers=2) as service:
        service.until(lambda: agrees(service, found), 120)


def test_a_running_job_stops_soon_after_its_cancellation(alone: Live) -> None:
    path = alone.post(GRID | {"fixed": {"epochs": 1000, "filters": 32, "num_neurons": 512}})
    alone.until(lambda: bool(alone.get(path)["fits"]["running"]), 30)
    time.sleep(1)
    cancelled = alone.client.post(f"{path}/cancel")
    assert (cancelled.status_code, cancelled.json()["state"]) == (202, "cancelling")
    job = alone.wait(path, "cancelled")
    fits = alone.get(f"{path}/trials/0")["fits"]
    assert all(len(fit["history"]) < 1000 for fit in fits), "it waited for the end of the training"
    assert job["fits"]["running"] == job["fits"]["queued"] == 0
    assert alone.client.delete(path).status_code == 204


def test_a_small_job_on_mnist_learns_digits(alone: Live) -> None:
    if not (settings().data_dir.expanduser() / "mnist.npz").exists():
        missing("MNIST (mnist.npz in TUNEWELL_DATA_DIR)")
    spec = {
        "dataset": {"name": "mnist", "train_samples": 600, "test_samples": 1000},
        "search": {"strategy": "grid", "param_grid": {"learning_rate": [0.001, 0.003]}},
        "fixed": {"epochs": 1, "filters": 8, "num_neurons": 32},
        "evaluation": {"validation_split": 0.25},
    }
    path = alone.post(spec)
    job = alone.wait(path)
    assert (job["state"], job["error"]) == ("succeeded", None)
    best = alone.get(f"{path}/best")
    assert best["test"]["samples"] == 1000
    assert best["test"]["accuracy"] > 0.5
    assert best["environment"]["dataset_sha256"]


def test_random_search_draws_the_same_candidates_as_scikit_learn(alone: Live) -> None:
    spec = json.loads((PROJECT / "examples" / "article-random.json").read_text(encoding="utf-8"))
    path = alone.post(spec)
    drawn = [trial["params"] for trial in alone.get(f"{path}/trials")["items"]]
    alone.client.post(f"{path}/cancel")
    spaces = {
        "learning_rate": reciprocal(0.001, 0.1),
        "dropout_rate": uniform(0.1, 0.3),
        "num_neurons": [128, 256, 512],
    }
    assert drawn == list(ParameterSampler(spaces, 10, random_state=42))
    assert drawn[0] == {
        "dropout_rate": 0.21236203565420875,
        "learning_rate": 0.07969454818643935,
        "num_neurons": 512,
    }
    alone.wait(path, "cancelled")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_api_stays_small_under_load(
    database_url: str, tmp_path: Path, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MALLOC_ARENA_MAX", "1")  # as `tunewell up` and the image set it
    with live(tmp_path / "home", database_url, broker.url.replace("/0", "/2"), workers=0) as service:
        # Not the sum: what the libraries take differs by machine, by as much as all jobs take.
        assert measure_growth_under_load(service) < MAX_GROWTH_MEBIBYTES


def measure_growth_under_load(service: Live) -> int:
    """MiB of memory that the API gains by concurrent jobs of the largest size and mixed requests."""
    assert service.get("/v1/jobs")
    idle = service.resident("api")
    rates = [number / 1000 for number in range(1, 101)]
    largest = GRID | {"search": {"strategy": "grid", "param_grid": {"l1": rates, "l2": rates}}}
    with ThreadPoolExecutor(4) as threads:
        paths = list(threads.map(service.post, [largest] * 4))
    for path in paths:
        assert service.client.post(f"{path}/cancel").status_code == 202
    asked = [f"{path}{more}" for path in paths for more in ("", "/trials?page_size=100", "/trials/1")]

    def ask(number: int) -> int:
        if number % 10 == 0:
            return service.client.post("/v1/jobs", content=b"[" * 60_000).status_code
        return service.client.get(asked[number % len(asked)]).status_code

    with ThreadPoolExecutor(16) as threads:
        assert set(threads.map(ask, range(600))) == {200, 415}
    assert service.get("/openapi.json")
    return service.resident("api") - idle
