"""Shows a job's progress on stderr: a live bar on a terminal, periodic lines elsewhere."""

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

from app.cli.formatting import count_done, describe_active, describe_counts, format_duration, format_params
from tunewell import Client
from tunewell.service import ENDED_STATES

SECONDS_BETWEEN_LINES = 10.0
MAX_WIDTH = 100  # columns


class Display(AbstractContextManager["Display"], Protocol):
    """Where the progress of a job is shown."""

    def update(self, job: dict[str, Any]) -> None: ...

    def note(self, text: str) -> None: ...


def choose_display() -> Display:
    """The display that suits stderr."""
    console = Console(stderr=True, highlight=False, markup=False)
    return LiveBar(console) if console.is_terminal and not console.is_dumb_terminal else Lines()


def follow_job(client: Client, job_id: str) -> dict[str, Any]:
    """Show the job's progress until it ends."""
    job: dict[str, Any] = {}
    note = client.service.note
    with choose_display() as display:
        client.service.note = display.note
        try:
            for job in client.watch(job_id):
                display.update(job)
        finally:
            client.service.note = note
    return job


class Lines:
    """Plain lines: one when the state changes, else one every ten seconds."""

    def __init__(self) -> None:
        self._state = ""
        self._next_line_at = 0.0
        self._last_note = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        return None

    def update(self, job: dict[str, Any]) -> None:
        self._last_note = ""
        now = time.monotonic()
        if job["state"] != self._state or now >= self._next_line_at:
            left = _describe_time_left(_get_eta(job))
            print(", ".join([job["state"], describe_counts(job), *_describe_best(job), *left]), file=sys.stderr)
            self._state, self._next_line_at = job["state"], now + SECONDS_BETWEEN_LINES

    def note(self, text: str) -> None:
        if text != self._last_note:
            print(text, file=sys.stderr)
            self._last_note = text


class LiveBar:
    """A bar drawn in place, with the best so far below it; the time left counts down between responses."""

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
        job, done, total, eta = self._job, count_done(self._job), self._job["fits"]["total"], _get_eta(self._job)
        left = None if eta is None else max(eta - (time.monotonic() - self._at), 0.0)
        first = Table.grid(padding=(0, 2), expand=True)
        first.add_column()
        first.add_column(ratio=1)
        first.add_column(no_wrap=True)
        bar = ProgressBar(total=total or 1, completed=done, complete_style="cyan", finished_style="green")
        first.add_row(job["state"], bar, Text(", ".join([f"{done} of {total} fits", *_describe_time_left(left)])))
        params = [format_params(job["best"]["params"])] if job["best"] else []
        below = self._note or ", ".join([*describe_active(job), *_describe_best(job), *params])
        return Constrain(Group(first, Text(below)), MAX_WIDTH)


def _describe_best(job: dict[str, Any]) -> list[str]:
    best = job["best"]
    return [f"best so far {best['validation_score']:.4f}"] if best else []


def _get_eta(job: dict[str, Any]) -> float | None:
    """The service's estimate of the seconds left; none once the job has ended."""
    eta: float | None = job["eta_seconds"]
    return None if job["state"] in ENDED_STATES else eta


def _describe_time_left(seconds: float | None) -> list[str]:
    return [] if seconds is None else [f"about {format_duration(seconds)} left"]
