"""Deletes the files of models that no job names, in a thread of its own: housekeeping must not wait for a storage."""

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from queue import Empty, SimpleQueue
from typing import Any
from uuid import UUID

from sqlalchemy import Engine

from app.tuning import storage
from app.tuning.database import reading
from app.tuning.jobs.model_rows import list_saved_models
from app.tuning.outages import AWAY
from app.tuning.saved_models import PREFIX, find_owner, name_model_files, name_model_folder

MODEL_SWEEP_SECONDS = 600.0
ORPHAN_AGE = timedelta(days=1)  # a worker has long recorded what it has stored by then, or never will
log = logging.getLogger("tunewell.housekeeping")


def find_unnamed(engine: Engine, now: datetime) -> list[str]:
    """The keys of files older than a day that no job names: of lost attempts, former winners and jobs that are gone."""
    old = [one.key for one in storage.list_files(PREFIX) if now - one.changed_at > ORPHAN_AGE]
    owners = {key: owner for key in old if (owner := find_owner(key))}
    with reading(engine) as session:
        models = list_saved_models(session, set(owners.values()))
    named = {key for job_id, model in models.items() for key in name_model_files(job_id, model)}
    return [key for key in owners if key not in named]


class ModelSweeper(threading.Thread):
    """Deletes a deleted job's files when it is told so, and every ten minutes those that no job names."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(name="model-sweeper", daemon=True)
        self._engine = engine
        self._gone: SimpleQueue[UUID | None] = SimpleQueue()
        self._unnamed: set[str] = set()

    def delete_files(self, job_id: UUID) -> None:
        """Have the files of a job deleted that has no row any more; who asks does not wait."""
        self._gone.put(job_id)

    def stop(self) -> None:
        """End the thread, after what it is doing."""
        self._gone.put(None)

    def run(self) -> None:
        while True:
            try:
                job_id = self._gone.get(timeout=MODEL_SWEEP_SECONDS)
            except Empty:
                self._try(self.sweep)
                continue
            if job_id is None:
                return
            self._try(storage.delete_folder, name_model_folder(job_id))

    def sweep(self) -> None:
        """Delete the files that no job names now, and none named when it was looked the last time."""
        found = set(find_unnamed(self._engine, datetime.now(UTC)))
        for key in found & self._unnamed:  # a worker may just record what it has waited for a day to record
            storage.delete_file(key)
            log.info("model without a job deleted", extra={"key": key})
        self._unnamed = found

    def _try(self, act: Callable[..., None], *arguments: Any) -> None:
        """Without success there is the next sweep."""
        try:
            act(*arguments)
        except (storage.StorageAway, *AWAY) as error:
            log.warning("models are not swept", extra={"reason": type(error).__name__})
        except Exception as error:
            log.error("models are not swept", exc_info=error)
