"""Data sets of clients in a worker: mapped from a folder in place, or through the cache of a bucket."""

import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from app.tuning import storage
from app.tuning.settings import settings
from worker import datasets, stored_datasets
from worker.datasets import Arrays, load_dataset
from worker.errors import DatasetUnavailable

GREY = np.arange(6 * 4 * 5, dtype=np.uint8).reshape(6, 4, 5, 1)
LABELS = np.array([0, 1, 2, 0, 1, 300], np.uint16)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home of its own, with the storage in it."""
    monkeypatch.setenv("TUNEWELL_HOME", str(tmp_path))
    monkeypatch.delenv("TUNEWELL_STORAGE_URL", raising=False)
    settings.cache_clear()
    yield tmp_path
    settings.cache_clear()
    datasets.forget_dataset()


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same storage, as if it were on another machine."""
    monkeypatch.setattr(storage, "local_path", lambda key: None)


def store(folder: Path, samples: np.ndarray = GREY) -> str:
    """Store a data set as the API does; its SHA-256."""
    digest = hashlib.sha256()
    files = []
    for part, array in zip(stored_datasets.PARTS, (samples, LABELS, samples[:2], LABELS[:2]), strict=True):
        files.append(folder / f"{part}.npy")
        np.save(files[-1], array)
        digest.update(files[-1].read_bytes())
    sha256 = digest.hexdigest()
    for file in files:
        storage.put_file(f"datasets/{sha256}/{file.name}", file)
    return sha256


def load(sha256: str) -> Arrays:
    """Load anew, as another training process does."""
    datasets.forget_dataset()
    return load_dataset("flowers", lambda *_: None, sha256)


def test_a_folder_is_mapped_in_place(tmp_path: Path) -> None:
    sha256 = store(tmp_path)
    arrays = load(sha256)
    assert np.array_equal(arrays.x_train, GREY[..., 0]) and arrays.x_test.shape == (2, 4, 5)
    assert np.array_equal(arrays.y_train, LABELS) and arrays.sha256 == sha256
    assert not arrays.x_train.flags.writeable and arrays.x_train.base is not None
    assert not (tmp_path / "cache").exists()
    assert load_dataset("flowers", lambda *_: None, sha256) is load_dataset("flowers", lambda *_: None, sha256)


def test_colors_and_tables_keep_their_shape(tmp_path: Path) -> None:
    colors = np.zeros((6, 4, 5, 3), np.uint8)
    table = np.linspace(0, 1, 18, dtype=np.float32).reshape(6, 3)
    assert load(store(tmp_path, colors)).x_train.shape == (6, 4, 5, 3)
    loaded = load(store(tmp_path, table)).x_train
    assert loaded.dtype == np.float32 and np.array_equal(loaded, table)


def test_says_what_is_missing_and_what_would_be_right() -> None:
    with pytest.raises(DatasetUnavailable) as refusal:
        load("ab" * 32)
    assert str(refusal.value) == (
        f"flowers is not in {settings().storage}: give API and workers one TUNEWELL_STORAGE_URL that all of them reach"
    )


def test_a_file_that_is_cut_is_not_loaded(tmp_path: Path) -> None:
    sha256 = store(tmp_path)
    place = tmp_path / "storage" / "datasets" / sha256 / "x_train.npy"
    place.write_bytes(place.read_bytes()[:-10])
    with pytest.raises(DatasetUnavailable, match="flowers cannot be read from file://"):
        load(sha256)


@pytest.mark.usefixtures("bucket")
def test_a_bucket_is_read_once_a_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_datasets, "RANGE_BYTES", 100)  # several for each file
    sha256 = store(tmp_path)
    left = tmp_path / "cache" / f"{'cd' * 32}.part"
    left.mkdir(parents=True)
    assert np.array_equal(load(sha256).x_train, GREY[..., 0])
    storage.delete_folder(f"datasets/{sha256}")
    assert np.array_equal(load(sha256).x_train, GREY[..., 0])
    assert sorted(one.name for one in (tmp_path / "cache").iterdir()) == sorted([sha256, "lock"])


@pytest.mark.usefixtures("bucket")
def test_processes_that_want_it_at_once_download_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sha256 = store(tmp_path)
    opened: list[str] = []
    open_file = storage.open_file

    def count(key: str, start: int = 0, end: int | None = None) -> storage.StoredFile:
        opened.append(key)
        return open_file(key, start, end)

    monkeypatch.setattr(storage, "open_file", count)
    found: list[stored_datasets.StoredArrays] = []

    def load_one() -> None:
        found.append(stored_datasets.load_stored("flowers", sha256, lambda *_: None))

    threads = [threading.Thread(target=load_one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 and len(opened) == 4


@pytest.mark.usefixtures("bucket")
def test_another_content_than_was_uploaded_is_not_kept(tmp_path: Path) -> None:
    sha256 = store(tmp_path)
    (tmp_path / "storage" / "datasets" / sha256 / "y_test.npy").write_bytes(b"another")
    with pytest.raises(DatasetUnavailable, match="its content is not the one that was uploaded"):
        load(sha256)
    assert not (tmp_path / "cache" / sha256).exists()


@pytest.mark.usefixtures("bucket")
def test_the_least_recently_used_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, third = (store(tmp_path, GREY + number) for number in range(3))
    for sha256 in (first, second, first):
        load(sha256)
    size = sum(file.stat().st_size for file in (tmp_path / "cache" / first).iterdir())
    monkeypatch.setattr(stored_datasets, "CACHE_BYTES", 2 * size)
    load(third)
    assert {one.name for one in (tmp_path / "cache").iterdir()} == {first, third, "lock"}


@pytest.mark.usefixtures("bucket")
def test_a_fit_waits_for_a_storage_that_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sha256 = store(tmp_path)
    place, away = tmp_path / "storage", tmp_path / "away"
    place.rename(away)
    place.write_text("no folder")
    windows: list[float | None] = []

    def return_after_a_while(window: float | None = None) -> None:
        windows.append(window)
        if len(windows) == 4:  # of two tries
            place.unlink()
            away.rename(place)

    arrays = load_dataset("flowers", return_after_a_while, sha256)
    assert np.array_equal(arrays.y_train, LABELS)
    assert windows[0] == stored_datasets.RANGE_SECONDS, "or the process would be taken for hung"


@pytest.mark.usefixtures("bucket")
def test_a_fit_does_not_wait_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sha256 = store(tmp_path)
    (tmp_path / "storage").rename(tmp_path / "away")
    (tmp_path / "storage").write_text("no folder")
    monkeypatch.setattr(stored_datasets, "AWAY_SECONDS", 0.0)
    with pytest.raises(DatasetUnavailable, match=r"flowers cannot be read from file:.*the storage cannot be used"):
        load(sha256)
