"""Loads data sets of clients from the storage by their SHA-256, memory-mapped: one copy for all processes of a host.

A storage in a folder is read in place; one in a bucket through a cache in the home.
"""

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from app.tuning import storage
from app.tuning.settings import settings
from worker.errors import DatasetUnavailable
from worker.locking import Alive, acquire

PARTS = ("x_train", "y_train", "x_test", "y_test")  # whose files, one after the other, have the data set's SHA-256
CACHE_BYTES = 20 * 2**30
RANGE_BYTES = 32 * 2**20  # that are fetched at a time
RANGE_SECONDS = 180.0  # in which they have come, or the storage counts as away
AWAY_SECONDS = 600.0  # that a fit waits for a storage that is away
REMEDY = "give API and workers one TUNEWELL_STORAGE_URL that all of them reach"
_T = TypeVar("_T")
StoredArrays = tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]


def load_stored(name: str, sha256: str, alive: Alive) -> StoredArrays:
    """The data set's x_train, y_train, x_test and y_test.

    Samples are mapped and read-only: grey images uint8 (n, height, width), images in color uint8 (n, height, width, 3),
    tables float32 (n, columns). Labels are uint8 or uint16 (n,), targets of a regression float64 (n,).
    `alive` is called with the seconds within which it is called again, and may raise to stop a download.

    Raises:
        DatasetUnavailable: this host cannot reach the storage, or the storage has not this data set.
    """
    key = f"datasets/{sha256}"
    try:
        if folder := storage.local_path(key):
            return _map(folder)
        with _locked_cache(alive) as cache:
            if not (cache / sha256).is_dir():
                _fetch(cache, sha256, alive)
            os.utime(cache / sha256)  # the least recently used are deleted first
            return _map(cache / sha256)
    except FileNotFoundError as error:
        raise DatasetUnavailable(f"{name} is not in {settings().storage}: {REMEDY}") from error
    except (OSError, ValueError, storage.StorageAway) as error:
        raise DatasetUnavailable(f"{name} cannot be read from {settings().storage} ({error}): {REMEDY}") from error


def _map(folder: Path) -> StoredArrays:
    x_train, y_train, x_test, y_test = (
        np.load(folder / f"{part}.npy", mmap_mode="r" if part.startswith("x") else None, allow_pickle=False)
        for part in PARTS
    )
    return _drop_channel(x_train), _widen(y_train), _drop_channel(x_test), _widen(y_test)


def _widen(labels: NDArray[Any]) -> NDArray[Any]:
    """Targets of a regression in the precision that scikit-learn computes with."""
    return labels.astype(np.float64) if labels.dtype.kind == "f" else labels


def _drop_channel(samples: NDArray[Any]) -> NDArray[Any]:
    """Grey images without their third axis; the same memory."""
    plain = samples.view(np.ndarray)
    return plain[..., 0] if plain.ndim == 4 and plain.shape[3] == 1 else plain


@contextmanager
def _locked_cache(alive: Alive) -> Iterator[Path]:
    """The folder of cached data sets; no other process of this host uses it meanwhile."""
    cache = settings().home.absolute() / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("a+") as lock:
        acquire(lock, alive)
        yield cache


def _fetch(cache: Path, sha256: str, alive: Alive) -> None:
    """Download the files beside their place, compare their hash, and move them there in one step."""
    for left in cache.glob("*.part"):  # by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    folder = cache / f"{sha256}.part"
    folder.mkdir()
    digest = hashlib.sha256()
    for part in PARTS:
        with (folder / f"{part}.npy").open("wb") as file:
            for piece in _read(f"datasets/{sha256}/{part}.npy", alive):
                file.write(piece)
                digest.update(piece)
    if digest.hexdigest() != sha256:
        raise ValueError("its content is not the one that was uploaded")
    _make_room(cache, _size(folder))
    folder.rename(cache / sha256)


def _read(key: str, alive: Alive) -> Iterator[bytes]:
    """The file's bytes, by the range; a file that an outage interrupts goes on where it was."""
    start, size = 0, 1
    while start < size:
        piece, size = _wait_for_storage(partial(_read_range, key, start), alive)
        yield piece
        start += len(piece)


def _read_range(key: str, start: int) -> tuple[bytes, int]:
    """Some bytes of a file, and the size of all of it."""
    found = storage.open_file(key, start, start + RANGE_BYTES)
    return b"".join(found.pieces), found.size


def _wait_for_storage(act: Callable[[], _T], alive: Alive) -> _T:
    """What `act` returns, once the storage is there: it may be restarting, and a job should outlive that."""
    end = time.monotonic() + AWAY_SECONDS
    while True:
        alive(RANGE_SECONDS)
        try:
            return act()
        except storage.StorageAway:
            if time.monotonic() > end:
                raise
        alive()
        time.sleep(1)


def _make_room(cache: Path, wanted: int) -> None:
    """Delete the least recently used data sets until the new one fits."""
    kept = sorted((one for one in cache.iterdir() if len(one.name) == 64), key=lambda one: one.stat().st_mtime)
    total = wanted + sum(map(_size, kept))
    for folder in kept:
        if total <= CACHE_BYTES:
            return
        total -= _size(folder)
        shutil.rmtree(folder, ignore_errors=True)  # who has mapped its files keeps them


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())
