"""Shows how far a job is: a line drawn in place in a terminal, a bar in a notebook, plain lines elsewhere."""

import html
import sys
import time
from typing import Any, Protocol

from tunewell.errors import require

Document = dict[str, Any]
BAR_WIDTH = 30
SECONDS_BETWEEN_LINES = 10.0


class Bar(Protocol):
    """Where progress is shown."""

    def show(self, job: Document) -> None: ...

    def close(self) -> None: ...


def choose_bar(wanted: bool = True) -> Bar:
    """The bar that suits where this process runs; one that shows nothing if none is wanted."""
    if not wanted:
        return _Nothing()
    if _is_notebook():
        return _NotebookBar()
    return _TerminalBar() if sys.stderr is not None and sys.stderr.isatty() else _Lines()


def describe_job(job: Document) -> str:
    """Such as `running, 12 of 82 fits, best so far 0.9711, about 41 s left`."""
    fits, best, left = job["fits"], job.get("best"), job.get("eta_seconds")
    parts = [job["state"], f"{_count_ended(fits)} of {fits['total']} fits"]
    if fits.get("failed"):
        parts.append(f"{fits['failed']} failed")
    score = (best or {}).get("validation_score", (best or {}).get("validation_accuracy"))
    if score is not None:
        parts.append(f"best so far {score:.4f}")
    if left:
        parts.append(f"about {round(left)} s left")
    return ", ".join(parts)


def _count_ended(fits: dict[str, int]) -> int:
    return fits["succeeded"] + fits["failed"] + fits["cancelled"]


def _is_notebook() -> bool:
    """Whether a Jupyter kernel shows this process's output; IPython is not imported to find out."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell is not None and hasattr(shell, "kernel")


class _Nothing:
    def show(self, job: Document) -> None:
        return None

    def close(self) -> None:
        return None


class _Lines(_Nothing):
    """One line when the state changes, else one every ten seconds."""

    def __init__(self) -> None:
        self._state, self._next_line_at = "", 0.0

    def show(self, job: Document) -> None:
        now = time.monotonic()
        if job["state"] != self._state or now >= self._next_line_at:
            print(describe_job(job), file=sys.stderr, flush=True)
            self._state, self._next_line_at = job["state"], now + SECONDS_BETWEEN_LINES


class _TerminalBar:
    def __init__(self) -> None:
        self._drawn = 0

    def show(self, job: Document) -> None:
        filled = round(BAR_WIDTH * job["progress"])
        line = f"[{'#' * filled}{'.' * (BAR_WIDTH - filled)}] {describe_job(job)}"
        sys.stderr.write("\r" + line.ljust(self._drawn))
        sys.stderr.flush()
        self._drawn = len(line)

    def close(self) -> None:
        if self._drawn:
            sys.stderr.write("\n")


class _NotebookBar(_Nothing):
    """One output that is replaced, so that the saved notebook holds the last state only."""

    def __init__(self) -> None:
        self._shown: Any = None

    def show(self, job: Document) -> None:
        shown = require("IPython.display", "a bar in a notebook")
        text = html.escape(describe_job(job))
        bar = shown.HTML(f'<progress value="{job["progress"]:.4f}" max="1" style="width: 20em"></progress> {text}')
        if self._shown is None:
            self._shown = shown.display(bar, display_id=True)
        else:
            self._shown.update(bar)
