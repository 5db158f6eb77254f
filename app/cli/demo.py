"""`tunewell demo`: the article's grid search from start to end, on a Tunewell of its own that ends with it."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from app.cli import output
from app.cli.client import Client, RequestRejected, ServiceUnreachable
from app.cli.progress import follow_job
from app.local.environment import MARK, child_environment
from app.local.launcher import PROJECT, CannotStart, find_free_port, read_running
from app.local.supervisor import end_with_parent
from app.tuning.settings import settings

GRID = PROJECT / "examples" / "article-grid.json"
LABEL = {"started-by": "demo"}
INTERRUPTED = 130


def run_demo(port: int) -> int:
    """Run the demo; the exit code."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        with _service(port) as url, Client(url) as client:
            return _search_and_report(client)
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return INTERRUPTED
    except RequestRejected as refused:
        output.print_problem(refused.problem)
    except (CannotStart, ServiceUnreachable) as error:
        print(error, file=sys.stderr)
    return 1


def _search_and_report(client: Client) -> int:
    spec = json.loads(GRID.read_text())
    _cancel_earlier(client)
    print("The article's grid search: 27 candidates on 6,000 images of MNIST, each trained on 3 folds.", flush=True)
    job = _search(client, spec)
    if (job["error"] or {}).get("type") == "DatasetUnavailable":
        print(job["error"]["message"])
        print("So it is the same search on scikit-learn's digits instead, which need no download:", flush=True)
        job = _search(client, {**spec, "dataset": {"name": "digits"}})
    if job["state"] != "succeeded":
        output.print_job(job)
        return 1
    print(f"\nThe five best of {job['trials']['total']} trials:")
    output.print_trials(client.trials(job["id"], 5, sort="-validation_accuracy")["items"])
    output.print_best(client.best(job["id"]))
    return 0


def _search(client: Client, spec: dict[str, Any]) -> dict[str, Any]:
    """Post the job and show it until it has ended; whatever interrupts that cancels it."""
    job = client.create(json.dumps({**spec, "labels": {**spec["labels"], **LABEL}}).encode())
    try:
        return follow_job(client, job["id"])
    except BaseException:
        with suppress(RequestRejected, ServiceUnreachable):
            client.cancel(job["id"], patience=0)
        raise


def _cancel_earlier(client: Client) -> None:
    """Cancel what a demo that was killed has left in the home, so that this one has the machine for itself."""
    for state in ("queued", "running"):
        for job in client.jobs(1000, state=state)["items"]:
            if LABEL.items() <= job["labels"].items():
                client.cancel(job["id"])


@contextmanager
def _service(port: int) -> Iterator[str]:
    """The URL of the Tunewell that already runs in this home, or of one that is started now and ends with the demo."""
    here = settings()
    home = here.home.absolute()
    if already := read_running(home):
        print(f"Tunewell already runs at {already['url']}: the demo uses it and leaves it running.")
        yield already["url"]
        return
    print(f"Starting Tunewell in {home}", flush=True)
    command = [sys.executable, "-m", "app.cli", "up", "--port", str(_port(port))]
    without_mark = {name: value for name, value in child_environment(here).items() if name != MARK}
    process = subprocess.Popen(
        command,
        cwd=PROJECT,
        env=without_mark,
        text=True,
        stdout=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is for the demo, which then stops this in order
        preexec_fn=end_with_parent,
    )
    try:
        yield _ready_url(process)
    finally:
        _stop(process)


def _port(port: int) -> int:
    """The port that was asked for, or any free one where it is taken."""
    try:
        return find_free_port("127.0.0.1", port)
    except CannotStart:
        print(f"Port {port} is taken; taking a free one.")
        return 0


def _ready_url(process: "subprocess.Popen[str]") -> str:
    line = process.stdout.readline() if process.stdout else ""
    if found := re.search(r"ready at (\S+)", line):
        print(line, end="", flush=True)
        return found[1]
    raise CannotStart("Tunewell did not start; the reason stands above.")


def _stop(process: "subprocess.Popen[str]") -> None:
    """Stop it in order; a further Ctrl-C meanwhile is passed on and stops it at once."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, frame: process.terminate())
    process.terminate()
    process.wait()


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt
