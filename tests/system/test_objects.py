"""A bucket of a real S3 server as the storage: of files alone, of a worker's cache, and going away in between."""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from app.tuning import storage
from app.tuning.settings import settings
from tests.support.objects import ObjectStore
from worker import stored_datasets
from worker.datasets import forget_dataset, load_dataset
from worker.errors import DatasetUnavailable

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def server() -> Iterator[ObjectStore]:
    """An S3 server for this module's tests."""
    with tempfile.TemporaryDirectory(prefix="tw-s3-") as folder:
        store = ObjectStore(Path(folder))
        store.start()
        try:
            yield store
        finally:
            store.kill()


@pytest.fixture
def bucket(server: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    """The server as this process's storage, and an empty home."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TUNEWELL_HOME", str(tmp_path / "home"))
    settings.cache_clear()
    yield server
    for folder in storage.list_folders("datasets"):
        storage.delete_folder(f"datasets/{folder}")
    settings.cache_clear()
    forget_dataset()


def store_images(folder: Path) -> str:
    """Store a data set of 20,000 images, larger than one part of an upload; its SHA-256."""
    images = np.random.default_rng(0).integers(0, 256, (20_000, 28, 28, 1), np.uint8)
    labels = (np.arange(20_000) % 3).astype(np.uint8)
    digest = hashlib.sha256()
    for part, array in zip(stored_datasets.PARTS, (images, labels, images[:50], labels[:50]), strict=True):
        np.save(folder / f"{part}.npy", array)
        digest.update((folder / f"{part}.npy").read_bytes())
    for part in stored_datasets.PARTS:
        storage.put_file(f"datasets/{digest.hexdigest()}/{part}.npy", folder / f"{part}.npy")
    return digest.hexdigest()


@pytest.mark.usefixtures("bucket")
def test_files_are_put_read_listed_and_deleted(tmp_path: Path) -> None:
    content = os.urandom(12 * 2**20)  # more than one part
    (tmp_path / "file").write_bytes(content)
    for key in ("datasets/ab/one", "datasets/ab/two", "datasets/abc/one"):
        storage.put_file(key, tmp_path / "file")
    opened = storage.open_file("datasets/ab/one", 5, len(content) - 5)
    assert b"".join(opened.pieces) == content[5:-5]
    assert (opened.size, opened.start, opened.end) == (len(content), 5, len(content) - 5)
    assert sorted(storage.list_folders("datasets")) == ["ab", "abc"]
    storage.delete_folder("datasets/ab")
    storage.delete_file("datasets/ab/one")
    assert [one.key for one in storage.list_files("datasets")] == ["datasets/abc/one"]
    with pytest.raises(FileNotFoundError):
        storage.open_file("datasets/ab/one")
    assert storage.is_reachable() and storage.local_path("datasets/abc/one") is None


def test_a_worker_fetches_a_data_set_once_and_waits_while_the_storage_is_away(
    bucket: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha256 = store_images(tmp_path)
    bucket.kill()
    assert not storage.is_reachable()
    with pytest.raises(storage.StorageAway):
        storage.put_file("datasets/ab/one", tmp_path / "x_test.npy")
    waited: list[float | None] = []

    def restart_after_a_while(window: float | None = None) -> None:
        waited.append(window)
        if len(waited) == 4:
            bucket.start()

    arrays = load_dataset("flowers", restart_after_a_while, sha256)
    assert arrays.x_train.shape == (20_000, 28, 28) and arrays.sha256 == sha256
    assert np.array_equal(arrays.x_test, np.load(tmp_path / "x_test.npy")[..., 0])
    storage.delete_folder(f"datasets/{sha256}")
    forget_dataset()
    load_dataset("flowers", lambda *_: None, sha256)  # from the cache
    with pytest.raises(DatasetUnavailable, match=r"flowers is not in s3://tunewell/\d+/prefix: give API and workers"):
        load_dataset("flowers", lambda *_: None, "ab" * 32)
