"""Files in the storage that `TUNEWELL_STORAGE_URL` names: a folder, or an object store that many hosts reach.

Keys are made of hashes and IDs, never of what a client names. A put is atomic: a key holds all of a file or nothing.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, from_url

from app.tuning.settings import settings
from app.tuning.urls import find_folder

if TYPE_CHECKING:
    from obstore.store import ObjectStore

PIECE_BYTES = 2**20
PARALLEL_PARTS = 2  # of 5 MiB, so that a put takes little memory
RETRY_SECONDS = 15
GLANCE = "3 seconds"  # that a look at whether the storage is there may take


class StorageAway(Exception):
    """The storage cannot be reached, or rejects this process."""


class StoredFile(NamedTuple):
    """A stored file, opened: its bytes from `start` to `end` (exclusive) of `size`, in pieces of about 1 MiB."""

    size: int
    start: int
    end: int
    pieces: Iterator[bytes]


class Entry(NamedTuple):
    """A stored file in a list."""

    key: str
    size: int
    changed_at: datetime


def put_file(key: str, file: Path) -> None:
    """Store a file, in place of what the key held.

    Raises:
        StorageAway: it could not be stored.
    """
    with _explaining():
        obstore.put(_store(), key, file, max_concurrency=PARALLEL_PARTS)
        if stored := local_path(key):
            _flush(stored)


def open_file(key: str, start: int = 0, end: int | None = None) -> StoredFile:
    """Open a stored file, or the bytes from `start` to before `end` of it, of which there must be some.

    Raises:
        FileNotFoundError: there is none.
        StorageAway: the storage cannot be reached; iterating raises it too.
    """
    part: Any = {"offset": start} if end is None else (start, end)
    with _explaining():
        found = obstore.get(_store(), key, options={"range": part} if start or end is not None else {})
    return StoredFile(found.meta["size"], *found.range, _iterate(found))


def list_files(folder: str) -> list[Entry]:
    """All stored files in this folder and below it.

    Raises:
        StorageAway: the storage cannot be reached.
    """
    with _explaining():
        found: Any = obstore.list(_store(), folder).collect()
    return [Entry(one["path"], one["size"], one["last_modified"]) for one in found]


def list_folders(folder: str) -> dict[str, datetime]:
    """The names of the folders in this one, and when each last changed.

    Raises:
        StorageAway: the storage cannot be reached.
    """
    if local := local_path(folder):
        with _explaining():
            inside = list(local.iterdir()) if local.is_dir() else []
            return {one.name: datetime.fromtimestamp(one.stat().st_mtime, UTC) for one in inside}
    changes: dict[str, datetime] = {}
    for entry in list_files(folder):
        name = entry.key.removeprefix(f"{folder}/").partition("/")[0]
        changes[name] = max(entry.changed_at, changes.get(name, entry.changed_at))
    return changes


def delete_file(key: str) -> None:
    """Delete a stored file, if it is there.

    Raises:
        StorageAway: the storage cannot be reached.
    """
    try:
        with _explaining():
            obstore.delete(_store(), key)
    except FileNotFoundError:
        pass


def delete_folder(folder: str) -> None:
    """Delete all stored files in this folder, if it is there.

    Raises:
        StorageAway: the storage cannot be reached.
    """
    for entry in list_files(folder):
        delete_file(entry.key)
    if local := local_path(folder):
        shutil.rmtree(local, ignore_errors=True)  # what a put that was killed has left is in no list


def local_path(key: str) -> Path | None:
    """Where the key's file is on this machine; None where the storage is an object store."""
    root = find_folder(settings().storage)
    return root / key if root else None


def is_reachable() -> bool:
    """Whether the storage can be used: a folder be written, or made, or a bucket be listed within a few seconds."""
    if folder := local_path(""):
        existing = next(one for one in (folder, *folder.parents) if one.exists())
        return existing.is_dir() and os.access(existing, os.R_OK | os.W_OK | os.X_OK)
    try:
        obstore.list_with_delimiter(_make_store(settings().storage, glances=True), "datasets")
    except (BaseError, OSError):
        return False
    return True


@contextmanager
def _explaining() -> Iterator[None]:
    """Raise `StorageAway` for all that the storage raises, unless a file is not there."""
    try:
        yield
    except FileNotFoundError:
        raise
    except (BaseError, OSError) as error:
        first, *_ = str(error).splitlines() or [type(error).__name__]
        raise StorageAway(f"the storage cannot be used: {first[:300]}") from error


def _iterate(found: "obstore.GetResult") -> Iterator[bytes]:
    with _explaining():
        for piece in found.stream(min_chunk_size=PIECE_BYTES):
            yield bytes(piece)


def _flush(file: Path) -> None:
    """Have the disk keep the file, since the row that names it outlives a power cut."""
    for place in (file, file.parent):
        descriptor = os.open(place, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _store() -> "ObjectStore":
    return _make_store(settings().storage)


@lru_cache(maxsize=4)
def _make_store(url: str, glances: bool = False) -> "ObjectStore":
    folder = find_folder(url)
    if folder:
        return LocalStore(folder, mkdir=True, automatic_cleanup=True)
    return from_url(
        url,
        client_options={"allow_http": True, "connect_timeout": GLANCE, "timeout": GLANCE if glances else "60 seconds"},
        retry_config={"max_retries": 0 if glances else 3, "retry_timeout": timedelta(seconds=RETRY_SECONDS)},
    )
