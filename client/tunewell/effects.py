"""What the logic of the client asks its transport to do.

The logic is written once, as generators that yield effects and get their outcomes; `transports` performs
them, blocking or not.
"""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import httpx2

from tunewell.calls import Call

T = TypeVar("T")
Document = dict[str, Any]
# What an attempt at a request may raise; UnicodeError: not a valid host name.
TRANSPORT_ERRORS = (httpx2.RequestError, UnicodeError)


@dataclass(frozen=True)
class Send:
    """Send the request; the outcome is the whole response."""

    call: Call


@dataclass(frozen=True)
class Open:
    """Send the request; the outcome is the response whose body `Next` reads, until the next `Open`, `Send` or `Sleep`.

    The body of an error is read at once.
    """

    call: Call


@dataclass(frozen=True)
class Next:
    """Read the next bytes of what was opened; none at its end."""


@dataclass(frozen=True)
class Sleep:
    """Wait."""

    seconds: float


@dataclass(frozen=True)
class Emit:
    """Hand a state of the job to the user."""

    job: Document


Effect = Send | Open | Next | Sleep | Emit
Flow = Generator[Effect, Any, T]


class Course(Generic[T]):
    """A flow as its transport goes through it."""

    result: T

    def __init__(self, flow: Flow[T]) -> None:
        self._flow = flow
        self._outcome: Any = None
        self._error: Exception | None = None

    def next_effect(self) -> Effect | None:
        """What to do next; none when the flow has ended, and `result` is there."""
        error, outcome, self._error, self._outcome = self._error, self._outcome, None, None
        try:
            return self._flow.throw(error) if error else self._flow.send(outcome)
        except StopIteration as stop:
            self.result = stop.value
            return None

    def give(self, outcome: Any) -> None:
        """The outcome of the last effect."""
        self._outcome = outcome

    def fail(self, error: Exception) -> None:
        """The last effect failed."""
        self._error = error
