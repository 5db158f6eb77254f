"""Shows how a job gets on, on stderr: a live bar on a terminal, now and then a line elsewhere."""

import sys
import time
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.constrain import Constrain
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from app.cli.client import ENDED, Client

SECONDS_BETWEEN_LINES = 10.0
WIDTH = 100  # columns at most, on however wide a terminal


class Display(AbstractContextManager["Display"], Protocol):
    """What a watched job is shown on."""

    def update(self, job: dict[str, Any]) -> None: ...

    def note(self, text: str) -> None: ...


def choose_display() -> Display:
    """The display that fits stderr."""
    console = Console(stderr=True, highlight=False, markup=False)
    return LiveBar(console) if console.is_terminal and not console.is_dumb_terminal else Lines()


def follow_job(client: Client, job_id: str) -> dict[str, Any]:
    """Show the job's progress until it has ended."""
    job: dict[str, Any] = {}
    note = client.note
    with choose_display() as shown:
        client.note = shown.note
        try:
            for job in client.watch(job_id):
                shown.update(job)
        finally:
            client.note = note
    return job


class Lines:
    """Plain lines: one when the state changes, else one every few seconds."""

    def __init__(self) -> None:
        self._state = ""
        self._due = 0.0
        self._noted = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        return None

    def update(self, job: dict[str, Any]) -> None:
        self._noted = ""
        now = time.monotonic()
        if job["state"] != self._state or now >= self._due:
            print(", ".join([job["state"], describe_counts(job), *_best(job), *_left(_eta(job))]), file=sys.stderr)
            self._state, self._due = job["state"], now + SECONDS_BETWEEN_LINES

    def note(self, text: str) -> None:
        if text != self._noted:
            print(text, file=sys.stderr)
            self._noted = text


class LiveBar:
    """A bar that is drawn in place, with the best so far below it; between answers the time left counts down."""

    def __init__(self, console: Console) -> None:
        self._job: dict[str, Any] | None = None
        self._at = 0.0
        self._note = ""
        self._live = Live(self, console=console, refresh_per_second=4)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._live.stop()

    def update(self, job: dict[str, Any]) -> None:
        self._job, self._at, self._note = job, time.monotonic(), ""
        self._live.refresh()

    def note(self, text: str) -> None:
        self._note = text

    def __rich__(self) -> RenderableType:
        if self._job is None:
            return Text(self._note)
        job, fits, eta = self._job, self._job["fits"], _eta(self._job)
        left = None if eta is None else max(eta - (time.monotonic() - self._at), 0.0)
        first = Table.grid(padding=(0, 2), expand=True)
        first.add_column()
        first.add_column(ratio=1)
        first.add_column(no_wrap=True)
        bar = ProgressBar(
            total=fits["total"] or 1, completed=_done(fits), complete_style="cyan", finished_style="green"
        )
        first.add_row(job["state"], bar, Text(", ".join([f"{_done(fits)} of {fits['total']} fits", *_left(left)])))
        below = self._note or ", ".join([*_not_queued(fits), *_best(job), *_params(job)])
        return Constrain(Group(first, Text(below)), WIDTH)


def describe_counts(job: dict[str, Any]) -> str:
    """How far the job's fits are, in words."""
    fits = job["fits"]
    return ", ".join([f"{_done(fits)} of {fits['total']} fits done", *_not_queued(fits)])


def format_duration(seconds: float) -> str:
    """Seconds as a person says them: 8 s, 3 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _done(fits: dict[str, int]) -> int:
    return fits["succeeded"] + fits["failed"] + fits["cancelled"]


def _not_queued(fits: dict[str, int]) -> list[str]:
    return [f"{fits[state]} {state}" for state in ("running", "failed") if fits[state]]


def _best(job: dict[str, Any]) -> list[str]:
    best = job["best"]
    return [f"best so far {best['validation_accuracy']:.4f}"] if best else []


def _params(job: dict[str, Any]) -> list[str]:
    return (
        [
            f"{name} {value:.6g}" if isinstance(value, float) else f"{name} {value}"
            for name, value in job["best"]["params"].items()
        ]
        if job["best"]
        else []
    )


def _eta(job: dict[str, Any]) -> float | None:
    """The seconds left as the service expects them; none once the job has ended."""
    eta: float | None = job["eta_seconds"]
    return None if job["state"] in ENDED else eta


def _left(seconds: float | None) -> list[str]:
    return [] if seconds is None else [f"about {format_duration(seconds)} left"]
