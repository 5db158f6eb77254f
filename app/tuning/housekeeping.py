"""Housekeeping: fits whose lease has run out go back, jobs that nobody works on are woken, deleted rows are dropped.

It runs in every API process; several at once do no harm.
"""

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Engine

from app.tuning import broker, outages, storage
from app.tuning.database import impatient, reading, try_writing, writing
from app.tuning.jobs import claims, datasets, deletions, store, workers
from app.tuning.jobs.attempts import AttemptKey, ErrorRecord
from app.tuning.jobs.claims import LEASE_SECONDS, Lease
from app.tuning.lease_watch import Watch
from app.tuning.migrations import UnusableDatabase, migrate_in_subprocess
from app.tuning.model_sweep import ModelSweeper
from app.tuning.outages import AWAY
from app.tuning.spool import remove_abandoned_spools

ROUND_SECONDS = 2.0
GONE_SECONDS = 20.0  # a worker gives a sign of life every five
PATIENCE_SECONDS = 2.0  # a lock that is held for longer keeps workers, too, from writing
OVERDUE_SECONDS = 6.0  # a worker renews its leases, and is seen, more often
SWEEP_SECONDS = 1.5  # a round, half of which others can write in
LEFTOVER_AGE = timedelta(days=1)  # an upload takes minutes
SELDOM_SECONDS = 600.0
STUCK_SECONDS = 60.0  # a round that takes longer will never end
LEASE_EXPIRED: ErrorRecord = {
    "type": "LostWorker",
    "message": f"no sign of life for {LEASE_SECONDS:.0f} seconds: the worker died, hangs or cannot reach the database",
    "traceback": None,
}
log = logging.getLogger("tunewell.housekeeping")


def requeue_expired(engine: Engine, watch: Watch[AttemptKey]) -> None:
    """Put back the fits whose leases were not renewed for as long as leases last, or give them up."""
    with reading(engine) as session:
        watch.look(claims.list_leases(session))
    if overdue := [Lease(*one) for one in watch.silent(OVERDUE_SECONDS)]:
        with writing(engine) as session:
            claims.mark_overdue(session, overdue)
    for lease in (Lease(*one) for one in watch.silent(LEASE_SECONDS)):
        with writing(engine) as session:
            if claims.expire_lease(session, lease, LEASE_EXPIRED):
                log.warning("lease expired", extra={"fit": lease.key.fit_id, "attempt": lease.key.attempt})


def forget_gone_workers(engine: Engine, watch: Watch[str]) -> None:
    """Remove the workers that have given no sign of life for a while: nothing waits for them any more."""
    with reading(engine) as session:
        watch.look(workers.list_last_seen(session))
    if watch.silent(OVERDUE_SECONDS):
        try_writing(engine)  # which succeeds if workers can write too
    for name, seen in watch.silent(GONE_SECONDS):
        with writing(engine) as session:
            if workers.remove_worker(session, name, seen):
                log.info("worker gone", extra={"worker": name})


def notify_workers(engine: Engine) -> None:
    """If no wake waits while fits do, wake the workers."""
    with reading(engine) as session:
        fits = sum(count for _, count in claims.list_claimable(session))
    if fits and not broker.count_waiting_wakes():
        broker.send_wakes(min(fits, broker.MAX_WAKES))


def sweep(engine: Engine, halt: threading.Event) -> None:
    """Drop rows of deleted jobs for a while, and let others write in between."""
    end = time.monotonic() + SWEEP_SECONDS
    while (began := time.monotonic()) < end:
        with writing(engine) as session:
            if not deletions.delete_some_rows(session):
                return
        if halt.wait(time.monotonic() - began):  # after some rows, so that steady nudges do not put an end to it
            return


def drop_old_keys(engine: Engine) -> None:
    """Forget the answers that nobody will ask for again."""
    with writing(engine) as session:
        store.forget_old_keys(session)


def remove_leftovers(engine: Engine) -> None:
    """Remove what processes that were killed have left of uploads, and old files of data sets that no row names."""
    remove_abandoned_spools()
    old = datetime.now(UTC) - LEFTOVER_AGE
    for sha256, changed_at in storage.list_folders("datasets").items():
        if changed_at < old:
            with writing(engine) as session:
                datasets.delete_files(session, sha256)


class Housekeeper(threading.Thread):
    """Does its chores every two seconds, and wakes workers at once when nudged."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(name="housekeeping", daemon=True)
        self._engine, self._impatient = engine, impatient(engine, PATIENCE_SECONDS)
        self._watch = Watch[AttemptKey]()
        self._presence = Watch[str]()
        self._nudged = threading.Event()
        self._stopped = False
        self._round_ended = time.monotonic()
        self._keys_dropped = 0.0
        self._leftovers_removed = -SELDOM_SECONDS
        self._sweeper = ModelSweeper(engine)
        self._troubles: dict[str, bool] = {}  # chores that cannot be done now, and whether that was to be foreseen
        self.prepared = False  # the database is on the newest schema

    def prepare(self) -> None:
        """Bring the database to the newest schema; where it is away, housekeeping goes on trying."""
        self.prepared = self._try(migrate_in_subprocess, self._engine)

    def nudge(self) -> None:
        """There is new work: do it now; who nudges waits for nothing."""
        self._nudged.set()

    def delete_model(self, job_id: UUID) -> None:
        """Have the files of a deleted job's model deleted; who asks waits for nothing."""
        self._sweeper.delete_files(job_id)

    def lives(self) -> bool:
        """Whether rounds are still made."""
        return self.is_alive() and time.monotonic() - self._round_ended < STUCK_SECONDS

    def well(self) -> bool:
        """Whether rounds are made, and nothing is wrong that neither database nor broker is the reason of."""
        return self.lives() and all(self._troubles.values())

    def stop(self) -> None:
        """End the thread, after what it is doing."""
        self._stopped = True
        self._sweeper.stop()
        self._nudged.set()
        self.join(timeout=10)

    def run(self) -> None:
        self._sweeper.start()
        while not self._stopped:
            self._nudged.clear()
            began = time.monotonic()
            self._keep()
            self._round_ended = time.monotonic()
            self._nudged.wait(max(0.0, began + self._period() - self._round_ended))

    def _keep(self) -> None:
        if not self.prepared:
            self.prepare()
        if not self._try(requeue_expired, self._impatient, self._watch):
            self._watch.forget()  # workers may have been kept from renewing by what kept this from looking
        if not self._try(forget_gone_workers, self._impatient, self._presence):
            self._presence.forget()
        self._try(notify_workers, self._impatient)
        self._try(sweep, self._impatient, self._nudged)
        if time.monotonic() - self._keys_dropped > SELDOM_SECONDS and self._try(drop_old_keys, self._impatient):
            self._keys_dropped = time.monotonic()
        if time.monotonic() - self._leftovers_removed > SELDOM_SECONDS:
            self._leftovers_removed = time.monotonic()
            self._try(remove_leftovers, self._impatient)

    def _period(self) -> float:
        """The next round begins when a lease's time has come."""
        return min(ROUND_SECONDS, max(0.2, LEASE_SECONDS - self._watch.longest()))

    def _try(self, chore: Callable[..., None], *arguments: Any) -> bool:
        name = chore.__name__
        try:
            chore(*arguments)
        except Exception as error:  # whatever is wrong with one chore, the others are done
            foreseen = isinstance(error, (*AWAY, *broker.BrokerError, UnusableDatabase, storage.StorageAway))
            if self._troubles.get(name) is not foreseen:
                self._tell(name, error, foreseen)
            self._troubles[name] = foreseen
            return False
        if self._troubles.pop(name, True) is False:
            log.warning("housekeeping goes on", extra={"chore": name})
        return True

    def _tell(self, chore: str, error: Exception, foreseen: bool) -> None:
        extra = {"chore": chore, "reason": outages.explain_failure(error)}
        if not foreseen:
            log.error("housekeeping fails", extra=extra, exc_info=error)
        elif not isinstance(error, AWAY) or not self.prepared:  # else the database's own line says it
            log.warning("housekeeping waits", extra=extra)
