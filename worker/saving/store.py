"""Stores a refit's model before its result is recorded, so that a job has its model with its test score or neither."""

import hashlib
import logging
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar
from uuid import UUID

from app.tuning import storage
from app.tuning.saved_models import SavedFile, SavedModel, name_model_file
from app.tuning.storage import StorageAway
from worker.faults import RESULTS
from worker.lease import LeaseHeartbeat
from worker.training import Export

_T = TypeVar("_T")
EXPORT_SECONDS = 300.0  # that the conversion of a large model may take
TRANSFER_SECONDS = 600.0  # and that of its bytes
MODEL_AWAY_SECONDS = 3600.0  # for which an attempt waits for the storage
AWAY_PAUSE_SECONDS = 2.0  # between two tries
log = logging.getLogger("tunewell.worker")


class ModelNotStored(Exception):
    """The model cannot be written as files, which is not its hyperparameters' fault."""


def store_model(
    job_id: UUID,
    export: Export,
    class_names: list[str] | None,
    environment: dict[str, str],
    heartbeat: LeaseHeartbeat,
) -> SavedModel:
    """Write the model that has just been trained as files, and store them.

    Raises:
        StorageAway: the storage has been away for an hour.
        ModelNotStored: the model cannot be written.
    """
    with TemporaryDirectory(prefix="tunewell-") as folder:
        heartbeat.report(EXPORT_SECONDS)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the libraries, about themselves
                exported = export(Path(folder))
        except RESULTS as error:
            raise ModelNotStored(f"{type(error).__name__}: {error}") from error
        files = [_describe_file(Path(folder) / f"model.{form}", form) for form in exported.formats]
        for file in files:
            _put(job_id, file, Path(folder) / f"model.{file['format']}", heartbeat)
    return {
        "files": files,
        "left_out": exported.left_out,
        "input": exported.input,
        "output": exported.output,
        "class_names": class_names,
        "environment": environment,
    }


def copy_model(model: SavedModel, owner: UUID, job_id: UUID, heartbeat: LeaseHeartbeat) -> bool:
    """Give a job a copy of another job's model; False if its files are not there any more.

    Raises:
        StorageAway: the storage has been away for an hour.
    """
    with TemporaryDirectory(prefix="tunewell-") as folder:
        for file in model["files"]:
            there = Path(folder) / f"model.{file['format']}"
            try:
                _retry(lambda file=file, there=there: _fetch(owner, file, there), heartbeat)  # type: ignore[misc]
            except FileNotFoundError:
                return False
            if _describe_file(there, file["format"]) != file:
                return False
            _put(job_id, file, there, heartbeat)
    return True


def _describe_file(path: Path, form: str) -> SavedFile:
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return {"format": form, "bytes": path.stat().st_size, "sha256": sha256}


def _put(job_id: UUID, file: SavedFile, path: Path, heartbeat: LeaseHeartbeat) -> None:
    _retry(lambda: storage.put_file(name_model_file(job_id, file), path), heartbeat)


def _fetch(owner: UUID, file: SavedFile, path: Path) -> None:
    with path.open("wb") as there:
        for chunk in storage.open_file(name_model_file(owner, file)).pieces:
            there.write(chunk)


def _retry(act: Callable[[], _T], heartbeat: LeaseHeartbeat) -> _T:
    """What `act` returns, once the storage is there: a result is not lost because it is away."""
    began, told = time.monotonic(), False
    while True:
        heartbeat.report(TRANSFER_SECONDS)
        try:
            return act()
        except StorageAway as error:
            if time.monotonic() - began > MODEL_AWAY_SECONDS:
                raise
            if not told:
                log.warning("waiting for the storage", extra={"reason": str(error)})
            told = True
        heartbeat.wait(AWAY_PAUSE_SECONDS)
