"""Housekeeping's watch over leases, with a clock that the test sets."""

from collections.abc import Callable

from sqlalchemy import Engine

from app.tuning import housekeeping
from app.tuning.jobs.attempts import AttemptKey
from app.tuning.lease_watch import Watch


class Watching:
    """The lease watch of one API process."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.now = 0.0
        self.watch = Watch[AttemptKey](lambda: self.now)

    def look(self, after: float = housekeeping.ROUND_SECONDS) -> None:
        """Look at the leases after this process has run for so many more seconds."""
        self.now += after
        housekeeping.requeue_expired(self.engine, self.watch)

    def look_on(self, seconds: float, meanwhile: Callable[[float], object] = lambda now: None) -> None:
        """Look every two seconds for so long; `meanwhile` is called with the time before each look."""
        for _ in range(round(seconds / housekeeping.ROUND_SECONDS)):
            meanwhile(self.now)
            self.look()
