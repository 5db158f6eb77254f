"""Tells which leases are no longer renewed, and which workers no longer seen, by this process's own running time.

The clocks of machines are set forward and back, and leap while a machine sleeps. So it counts only whether a lease was
renewed while this process looked on: in time that it spent awake, and in which the database could be read and written.
"""

import time
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")
MAX_GAP_SECONDS = 5.0  # that count between two looks: if there were more, this process and its machine were held up


class _Seen(NamedTuple):
    until: datetime
    silent: float  # seconds without a renewal


class Watch(Generic[T]):
    """How long each moment, of a lease or a worker's last sign of life, has not been renewed, as far as was seen."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now, self._looked = now, now()
        self._seen: dict[T, _Seen] = {}

    def look(self, moments: Iterable[tuple[T, datetime]]) -> None:
        """Take in all of them as they stand."""
        looked = self._now()
        passed = min(looked - self._looked, MAX_GAP_SECONDS)
        self._looked, known, self._seen = looked, self._seen, {}
        for key, until in moments:
            before = known.get(key)
            # A renewal says a later moment; that a clock was set back, or leases moved, is no sign of life.
            silent = before.silent + passed if before and until <= before.until else 0.0
            self._seen[key] = _Seen(until, silent)

    def silent(self, seconds: float) -> list[tuple[T, datetime]]:
        """Those that were not renewed for so long."""
        return [(key, seen.until) for key, seen in self._seen.items() if seen.silent >= seconds]

    def longest(self) -> float:
        """Seconds for which the most silent one was not renewed."""
        return max((seen.silent for seen in self._seen.values()), default=0.0)

    def forget(self) -> None:
        """Begin anew, because workers may have been kept from renewing."""
        self._seen = {}
