"""Checkpoints of fits: a cache in files, which may be lost, cut or deleted at any time; then a fit trains again."""

import json
import logging
import os
import shutil
import time
from contextlib import suppress
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import uuid4
from zipfile import ZipFile

import numpy as np
from numpy.typing import NDArray

from app.tuning.settings import settings
from worker.compiled.state import Epoch, Snapshot

FREE_BYTES = 2**28  # that a checkpoint leaves on the disk
STALE_SECONDS = 3600  # after which a file that is still being written has been left by a killed process
SUFFIX = ".npz"
log = logging.getLogger("tunewell.worker")


class FitCheckpoints:
    """The checkpoints of fits with one key, one file for each epoch; fits of more epochs go on from those of fewer."""

    def __init__(self, key: str, keeps_last: bool) -> None:
        self.keeps_last = keeps_last  # whether a fit of more epochs may follow
        self._key = key
        self._folder = settings().home.absolute() / "checkpoints"
        self._most = settings().checkpoint_bytes

    def load(self, epochs: int) -> Snapshot | None:
        """The latest snapshot after at most so many epochs; None if there is none that can be read."""
        for epoch, path in sorted(self._list_mine(), reverse=True) if self._most else ():
            if epoch <= epochs and (snapshot := _read(path)):
                with suppress(OSError):
                    os.utime(path)  # the least recently used are deleted first
                return snapshot
        return None

    def save(self, snapshot: Snapshot) -> None:
        """Write a snapshot in place of those of fewer epochs, if there is room for it."""
        size = sum(part.nbytes for part in snapshot.arrays)
        if size > self._most:  # it would only push out the others
            return
        epoch = len(snapshot.epochs)
        path = self._folder / f"{self._key}.{epoch}{SUFFIX}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            if shutil.disk_usage(self._folder).free < FREE_BYTES + size:
                raise OSError("the disk is nearly full")
            _write(path, snapshot)
            self._make_room(path)
        except OSError as error:
            _log_once("checkpoint not written", error.strerror or str(error))  # without the path, which differs
            return
        self._discard_before(epoch)

    def discard(self) -> None:
        """Delete the checkpoints, which no fit will go on from."""
        self._discard_before(10**9)

    def _discard_before(self, epoch: int) -> None:
        for number, path in self._list_mine():
            if number < epoch:
                _delete(path)

    def _list_mine(self) -> list[tuple[int, Path]]:
        try:
            found = list(self._folder.glob(f"{self._key}.*{SUFFIX}"))
        except OSError as error:
            _log_once("checkpoints not reachable", error.strerror or str(error))
            return []
        numbered = ((path.name.split(".")[1], path) for path in found)
        return [(int(number), path) for number, path in numbered if number.isdecimal()]

    def _make_room(self, newest: Path) -> None:
        """Delete what killed processes have left, and the least recently used files until all fit."""
        files = []
        for path in self._folder.glob(f"*{SUFFIX}*"):
            with suppress(OSError):  # deleted by another worker
                found = path.stat()
                if path.suffix == SUFFIX:
                    files.append((path == newest, found.st_mtime, found.st_size, path))
                elif time.time() - found.st_mtime > STALE_SECONDS:
                    _delete(path)
        total = sum(size for *_, size, _ in files)
        for _, _, size, path in sorted(files):
            if total <= self._most:
                return
            _delete(path)
            total -= size


def _read(path: Path) -> Snapshot | None:
    try:
        with ZipFile(path) as stored:
            arrays = [_read_array(stored, str(number)) for number in range(len(stored.namelist()) - 1)]
            rows = json.loads(_read_array(stored, "epochs").tobytes())
        return Snapshot([Epoch(*row) for row in rows], arrays)
    except FileNotFoundError:
        return None
    except Exception as error:  # a damaged archive may raise nearly any
        log.warning("checkpoint not readable: the fit starts anew", extra={"reason": type(error).__name__})
        _delete(path)
        return None


def _read_array(stored: ZipFile, name: str) -> NDArray[Any]:
    """One of the arrays that `np.savez` has written; its checksum is verified, as `np.load` does not always."""
    array: NDArray[Any] = np.lib.format.read_array(BytesIO(stored.read(f"{name}.npy")), allow_pickle=False)
    return array


def _write(path: Path, snapshot: Snapshot) -> None:
    """Write the file whole or not at all."""
    epochs = np.frombuffer(json.dumps(snapshot.epochs).encode(), np.uint8)
    # Not by the process's number: containers that share a folder have the same ones.
    temporary = path.with_name(f"{path.name}.{uuid4().hex}")
    try:
        with temporary.open("wb") as file:
            parts: dict[str, Any] = {str(number): part for number, part in enumerate(snapshot.arrays)}
            np.savez(file, epochs=epochs, **parts)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        _delete(temporary)


def _delete(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)


@lru_cache(maxsize=8)
def _log_once(message: str, reason: str) -> None:
    log.warning(message, extra={"reason": reason})
