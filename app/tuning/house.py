"""House-keeping: fits whose lease has run out go back, jobs that nobody works on are woken, old keys are dropped.

It runs in every API process; several at once do no harm.
"""

import logging
import threading
import time
from collections.abc import Callable

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from app.tuning import broker, claims, failures, store
from app.tuning.claims import LEASE_SECONDS
from app.tuning.database import AWAY, reading, writing
from app.tuning.migrations import UnusableDatabase, migrate_apart
from app.tuning.tables import Outcome

PERIOD_SECONDS = 2.0
SILENT = {
    "type": "LostWorker",
    "message": f"no sign of life for {LEASE_SECONDS:.0f} seconds: the worker died, hangs or cannot reach the database",
    "traceback": None,
}
log = logging.getLogger("tunewell.house")


def take_back(engine: Engine) -> None:
    """Put back the fits whose lease has run out, or give them up."""
    with reading(engine) as session:
        holds = claims.expired(session)
    for hold in holds:
        with writing(engine) as session:
            if store.lock(session, hold.job_id) and claims.still_expired(session, hold):
                claims.lose(session, hold, Outcome.LOST, SILENT)
                log.warning("lease expired", extra={"fit": hold.fit_id, "attempt": hold.attempt})


def wake_idle(engine: Engine) -> None:
    """If no wake waits while fits do, wake the workers."""
    with reading(engine) as session:
        fits = sum(count for _, count in claims.claimable(session))
    if fits and not broker.waiting():
        broker.wake(min(fits, broker.MOST_WAKES))


def drop_old_keys(engine: Engine) -> None:
    """Forget the answers that nobody will ask for again."""
    with writing(engine) as session:
        store.forget(session)


class House(threading.Thread):
    """Keeps house every two seconds, and wakes workers at once when nudged."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(name="house", daemon=True)
        self._engine = engine
        self._nudged = threading.Event()
        self._stopped = False
        self._answered = time.monotonic()  # when the database last did
        self._keys_dropped = 0.0
        self._troubles: set[str] = set()
        self._prepared = False

    def prepare(self) -> None:
        """Bring the database to the newest schema; where it is away, house-keeping goes on trying."""
        self._prepared = self._try(migrate_apart)

    def nudge(self) -> None:
        """There is new work: wake the workers now, without waiting for the broker."""
        self._nudged.set()

    def stop(self) -> None:
        """End the thread, after what it is doing."""
        self._stopped = True
        self._nudged.set()
        self.join(timeout=10)

    def run(self) -> None:
        patient_until = 0.0
        while not self._stopped:
            if not self._prepared:
                self.prepare()
            if time.monotonic() - self._answered > LEASE_SECONDS / 2:
                # The machine slept or the database was away: workers get the time of a lease to speak up first.
                patient_until = time.monotonic() + LEASE_SECONDS
            if time.monotonic() >= patient_until:
                self._try(take_back)
            self._try(wake_idle)
            if time.monotonic() - self._keys_dropped > 600:
                self._try(drop_old_keys)
                self._keys_dropped = time.monotonic()
            self._nudged.wait(PERIOD_SECONDS)
            self._nudged.clear()

    def _try(self, chore: Callable[[Engine], None]) -> bool:
        name = chore.__name__
        try:
            chore(self._engine)
        except (SQLAlchemyError, *broker.BrokerError) as error:
            if name not in self._troubles:
                unforeseen = isinstance(error, SQLAlchemyError) and not isinstance(error, (*AWAY, UnusableDatabase))
                extra = {"chore": name, "reason": failures.reason(error)}
                log.warning("house-keeping waits", extra=extra, exc_info=unforeseen)
            self._troubles.add(name)
            if not isinstance(error, SQLAlchemyError):
                self._answered = time.monotonic()
            return False
        self._troubles.discard(name)
        self._answered = time.monotonic()
        return True
