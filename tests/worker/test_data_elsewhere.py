"""A worker that cannot read the data set: the others train the job, and it fails only if no worker has the data."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.tuning.settings import settings
from tests.support.live import UNPRIVILEGED, Live, live
from tests.support.servers import Broker, missing

pytestmark = pytest.mark.timeout(400)
SEARCH = {
    "dataset": {"name": "mnist", "train_samples": 1000, "test_samples": 200},
    "search": {
        "strategy": "random",
        "param_distributions": {"learning_rate": {"distribution": "loguniform", "low": 0.001, "high": 0.1}},
        "n_iter": 20,
    },
    "fixed": {"epochs": 1, "filters": 4, "num_neurons": 8},
    "evaluation": {"cv": 2},
    "random_state": 5,
}
NO_NETWORK = {name: "http://127.0.0.1:9" for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")}


def without_data(folder: Path) -> dict[str, str]:
    """The environment of a worker that looks for MNIST in this folder and has no network."""
    return {**NO_NETWORK, "no_proxy": "", "NO_PROXY": "", "TUNEWELL_DATA_DIR": str(folder)}


def empty(folder: Path) -> Path:
    folder.mkdir()
    return folder


def closed(folder: Path) -> Path:
    """A folder with MNIST that only root with all privileges may enter."""
    folder.mkdir()
    (folder / "mnist.npz").symlink_to(settings().data_dir.expanduser().absolute() / "mnist.npz")
    folder.chmod(0)
    return folder


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, broker: Broker) -> Iterator[Live]:
    """The service with one worker, which has the data."""
    if not (settings().data_dir.expanduser() / "mnist.npz").exists():
        missing("MNIST (mnist.npz in TUNEWELL_DATA_DIR)")
    home = tmp_path_factory.mktemp("data-elsewhere")
    with live(home, f"sqlite:///{home / 'tunewell.db'}", broker.url.replace("/0", "/3"), workers=1) as made:
        yield made


def warm(service: Live) -> bool:
    """Train a job that needs no such data; True if both workers took part, so both are running."""
    address = service.post({**SEARCH, "dataset": {"name": "digits"}, "fixed": {"epochs": 5}})
    service.wait(address)
    trials = [service.get(f"{address}/trials/{number}") for number in range(20)]
    return len({fit["worker"] for trial in trials for fit in trial["fits"]}) == 2


def trained(service: Live) -> list[Any]:
    """The results of a job, and for each fit its worker and attempt."""
    address = service.post(SEARCH)
    job = service.wait(address)
    assert (job["state"], job["error"]) == ("succeeded", None)
    results = service.get(f"{address}/results")
    return [
        {name: column for name, column in results.items() if "time" not in name},
        service.get(f"{address}/best")["test"],
    ]


@pytest.mark.parametrize("unreadable", [empty, closed])
def test_a_worker_without_the_data_does_not_change_a_jobs_results(
    service: Live, tmp_path: Path, unreadable: Callable[[Path], Path]
) -> None:
    expected = trained(service)
    prefix = UNPRIVILEGED if os.geteuid() == 0 else ()
    service.start_worker("lacking", without_data(unreadable(tmp_path / "data")), prefix)
    try:
        service.until(lambda: warm(service), 100)
        assert trained(service) == expected
        said = service.said("lacking")
        assert said.count("outcome=released error=DatasetUnavailable") == 1
        assert f"{tmp_path / 'data'} (TUNEWELL_DATA_DIR" in said
    finally:
        service.end("lacking")


def test_a_job_fails_if_no_worker_has_the_data_and_so_does_the_next_one(tmp_path: Path, broker: Broker) -> None:
    home = tmp_path / "home"
    url = broker.url.replace("/0", "/5")
    with live(home, f"sqlite:///{home / 'tunewell.db'}", url, workers=0) as service:
        service.start_worker("w1", without_data(empty(tmp_path / "data")))
        for _ in range(2):
            job = service.wait(service.post(SEARCH))
            assert (job["state"], job["error"]["type"]) == ("failed", "DatasetUnavailable")
            assert f"Put Keras's mnist.npz into {tmp_path / 'data'}" in job["error"]["message"]
        assert "MNIST is not there" in (home / "w1.log").read_text(errors="replace")
