"""Tells which leases are no longer renewed, by this process's own running time.

The clocks of machines are set forward and back, and leap while a machine sleeps. So it counts only whether a lease was
renewed while this process looked on: in time that it spent awake, and in which the database could be read and written.
"""

import time
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import NamedTuple

from app.tuning.claims import Hold, Lease

MOST_SECONDS = 5.0  # that count between two looks: if there were more, this process and its machine were held up


class _Seen(NamedTuple):
    until: datetime
    silent: float  # seconds without a renewal


class Watch:
    """How long each lease has not been renewed, as far as this process has seen."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now, self._looked = now, now()
        self._seen: dict[Hold, _Seen] = {}

    def look(self, leases: Iterable[Lease]) -> None:
        """Take in all leases as they stand."""
        looked = self._now()
        passed = min(looked - self._looked, MOST_SECONDS)
        self._looked, known, self._seen = looked, self._seen, {}
        for hold, until in leases:
            before = known.get(hold)
            # A renewal says a later moment; that a clock was set back, or leases moved, is no sign of life.
            silent = before.silent + passed if before and until <= before.until else 0.0
            self._seen[hold] = _Seen(until, silent)

    def silent(self, seconds: float) -> list[Lease]:
        """The leases that were not renewed for so long."""
        return [Lease(hold, seen.until) for hold, seen in self._seen.items() if seen.silent >= seconds]

    def longest(self) -> float:
        """Seconds for which the most silent lease was not renewed."""
        return max((seen.silent for seen in self._seen.values()), default=0.0)

    def forget(self) -> None:
        """Begin anew, because workers may have been kept from renewing."""
        self._seen = {}
