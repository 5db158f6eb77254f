"""Checkpoints are a cache: whatever happens to the files, the table is the same."""

import errno
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from app.main import create_app
from app.tuning.settings import settings
from tests.conftest import IdleHousekeeper
from tests.worker.test_runner import run

pytest.importorskip("tensorflow", reason="TensorFlow is not installed")

from worker import checkpoints, fit
from worker.checkpoints import FitCheckpoints
from worker.compiled.state import Epoch, Snapshot

EPOCHS = [Epoch(epoch, 0.5, 0.25, None, float("nan"), 1.0) for epoch in (1, 2, 3)]
ARRAYS: list[Any] = [np.arange(6, dtype=np.float32).reshape(2, 3), np.array(7)]
HALVING = {
    "dataset": {"name": "digits", "train_samples": 300, "test_samples": 50},
    "search": {
        "strategy": "halving_grid",
        "param_grid": {"learning_rate": [0.001, 0.01, 0.1]},
        "max_resources": 4,
        "factor": 2,
        "rung_levels": [1, 2, 4],
    },
    "fixed": {"num_neurons": 8, "filters": 4},
    "evaluation": {"cv": 2},
    "limits": {"reuse": False},
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("TUNEWELL_HOME", str(tmp_path))
    settings.cache_clear()
    yield tmp_path
    settings.cache_clear()


def files(home: Path) -> list[Path]:
    return sorted((home / "checkpoints").glob("*"))


def keep(key: str, epochs: int) -> FitCheckpoints:
    kept = FitCheckpoints(key, keeps_last=True)
    kept.save(Snapshot(EPOCHS[:epochs], ARRAYS))
    return kept


def test_a_snapshot_is_read_as_it_was_written(home: Path) -> None:
    found = keep("a", 2).load(3)
    assert found
    assert [(array.dtype, array.tolist()) for array in found.arrays] == [(a.dtype, a.tolist()) for a in ARRAYS]
    assert str(found.epochs) == str(EPOCHS[:2])


def test_the_latest_of_at_most_so_many_epochs_is_loaded_and_replaces_earlier_ones(home: Path) -> None:
    kept = keep("a", 1)
    keep("b", 3)
    assert [len(found.epochs) if (found := kept.load(epochs)) else None for epochs in (0, 1, 5)] == [None, 1, 1]
    keep("a", 3)
    assert [path.name for path in files(home)] == ["a.3.npz", "b.3.npz"]
    kept.discard()
    assert [path.name for path in files(home)] == ["b.3.npz"]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[content.index(np.float32(5).tobytes())] ^= 1  # within an array
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def encrypt(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] ^= 1  # the flag in the archive's directory
    path.write_bytes(content)


def compress(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 10] ^= 64  # a method that nobody knows
    path.write_bytes(content)


def pickle(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, allow_pickle=True, epochs=np.array([{}], dtype=object))


@pytest.mark.parametrize("damage", [cut, flip, empty, encrypt, compress, pickle])
def test_a_damaged_file_is_deleted_and_the_fit_starts_anew(damage: Callable[[Path], None], home: Path) -> None:
    kept = keep("a", 1)
    damage(files(home)[0])
    assert kept.load(3) is None
    assert files(home) == []


def test_the_least_recently_used_files_are_deleted_first(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = keep("a", 1)
    size = files(home)[0].stat().st_size
    monkeypatch.setenv("TUNEWELL_CHECKPOINT_BYTES", str(2 * size + size // 2))
    settings.cache_clear()
    keep("b", 1)
    for age, path in enumerate(files(home)):
        os.utime(path, (1000 - age, 1000 - age))  # b is older
    assert kept.load(1)
    keep("c", 1)
    assert [path.name for path in files(home)] == ["a.1.npz", "c.1.npz"]


def test_only_files_of_killed_processes_are_deleted_among_those_being_written(home: Path) -> None:
    keep("a", 1)
    young, old = (home / "checkpoints" / f"a.2.npz.{number}" for number in (1, 2))
    for path in (young, old):
        path.write_bytes(b"half")
    os.utime(old, (1000, 1000))
    keep("b", 1)
    assert [path.name for path in files(home)] == ["a.1.npz", "a.2.npz.1", "b.1.npz"]


def test_a_full_disk_is_logged_once(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), f"file {descriptor}")

    monkeypatch.setattr(os, "fsync", fail)
    checkpoints._log_once.cache_clear()
    for key in "abc":
        keep(key, 1)
    assert [record.getMessage() for record in caplog.records] == ["checkpoint not written"]
    assert files(home) == []


def test_none_are_written_where_none_are_wanted_or_possible(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "FREE_BYTES", 2**60)
    keep("a", 1)
    assert files(home) == []
    (home / "checkpoints").rmdir()
    (home / "checkpoints").write_text("in the way")
    monkeypatch.undo()
    monkeypatch.setenv("TUNEWELL_HOME", str(home))
    assert keep("a", 1).load(1) is None
    monkeypatch.setenv("TUNEWELL_CHECKPOINT_BYTES", "0")
    settings.cache_clear()
    (home / "checkpoints").unlink()
    keep("a", 1)
    assert files(home) == []


def test_checkpoints_that_are_switched_off_are_not_read_either(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert keep("a", 1).load(3)
    monkeypatch.setenv("TUNEWELL_CHECKPOINT_BYTES", "0")
    settings.cache_clear()
    assert FitCheckpoints("a", keeps_last=True).load(3) is None


def test_a_snapshot_larger_than_the_cap_does_not_push_out_others(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep("a", 1)
    monkeypatch.setenv("TUNEWELL_CHECKPOINT_BYTES", str(2 * files(home)[0].stat().st_size))
    settings.cache_clear()
    FitCheckpoints("b", keeps_last=True).save(Snapshot(EPOCHS[:1], [np.zeros(10_000)]))
    assert [path.name for path in files(home)] == ["a.1.npz"]


def test_without_a_home_that_can_be_reached_a_fit_goes_on(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEWELL_HOME", str(home / ("x" * 300)))  # longer than any file system's names
    settings.cache_clear()
    kept = keep("a", 1)
    assert kept.load(3) is None
    kept.discard()


def search(engine: Engine, between: Callable[[Path], None], home: Path) -> tuple[Any, Any, list[Any]]:
    """The results and the best of a halving search, with something done to the files after each fit."""

    def train(claim: Any, heartbeat: Any) -> Any:
        try:
            return fit.train_fit(claim, heartbeat)
        finally:
            for path in files(home):
                between(path)

    for path in files(home):
        path.unlink()
    with TestClient(create_app(engine, IdleHousekeeper)) as client:
        job = client.post("/v1/jobs", json=HALVING).json()
        run(engine, train, most=100)
        address = f"/v1/jobs/{job['id']}"
        results, best = client.get(f"{address}/results").json(), client.get(f"{address}/best").json()
        shown = [client.get(f"{address}/trials/{number}").json() for number in range(3)]
    resumed = [one["resumed_from"] for trial in shown for one in trial["fits"]]
    histories = [
        [{name: value for name, value in epoch.items() if name != "seconds"} for epoch in one["history"]]
        for trial in shown
        for one in trial["fits"]
    ]
    table = {name: column for name, column in results.items() if "time" not in name}
    return (json.dumps(table), {**best, "job_id": None, "refit_seconds": None}, histories), resumed, job


@pytest.mark.slow
def test_the_table_is_the_same_whatever_happens_to_the_files(
    engine: Engine, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, resumed, _ = search(engine, lambda path: None, home)
    assert sorted(set(filter(None, resumed))) == [1, 2]
    for damage in (cut, Path.unlink):
        found, resumed, _ = search(engine, damage, home)
        assert (found, set(resumed)) == (expected, {None})
    monkeypatch.setenv("TUNEWELL_CHECKPOINT_BYTES", "0")
    settings.cache_clear()
    found, resumed, _ = search(engine, lambda path: None, home)
    assert (found, set(resumed)) == (expected, {None})
