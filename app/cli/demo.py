"""`tunewell demo`: an example grid search from start to end, on a service that it starts and stops."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from app.cli import output
from app.cli.progress import follow_job
from app.local.environment import MARK, make_child_environment
from app.local.launcher import PROJECT, CannotStart, find_free_port, read_running
from app.local.notes import write_note
from app.local.supervisor import end_with_parent
from app.tuning.settings import settings
from tunewell import Client, RequestRejected, ServiceUnreachable, calls

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
    except RequestRejected as error:
        output.print_problem(error.problem)
    except (CannotStart, ServiceUnreachable) as error:
        print(error, file=sys.stderr)
    return 1


def _search_and_report(client: Client) -> int:
    spec = json.loads(GRID.read_text())
    spec["evaluation"]["race"] = {"method": "lossless"}
    _cancel_earlier(client)
    _note("Grid search: 27 candidates on 6,000 MNIST images, each on 3 folds unless it cannot win any more.")
    job = _search(client, spec)
    if (job["error"] or {}).get("type") == "DatasetUnavailable":
        _note(job["error"]["message"])
        _note("Searching scikit-learn's digits instead, which need no download:")
        job = _search(client, {**spec, "dataset": {"name": "digits"}})
    if job["state"] != "succeeded":
        output.print_job(job)
        return 1
    trials = client.gather(calls.list_trials(job["id"], sort="-validation_score"), 5)
    best = client.fetch(calls.show_best(job["id"]))
    print(f"\nThe best five of {job['trials']['total']} trials:")
    output.print_trials(trials["items"])
    _note(_describe_savings(job))
    output.print_best(best)
    return 0


def _describe_savings(job: dict[str, Any]) -> str:
    saved, total = job["fits"]["cancelled"], job["fits"]["total"]
    return (
        f"The race saved {saved} of {total} fits for the same winner: {job['trials']['pruned']} candidates could not "
        "win any more, even with 1.0 on every remaining fold."
    )


def _search(client: Client, spec: dict[str, Any]) -> dict[str, Any]:
    """Post the job and show its progress until it ends; cancel it on any exception."""
    job = client.submit(spec, labels={**spec["labels"], **LABEL}).document
    _note(f"Watch it in a browser: {client.url}/jobs/{job['id']}")
    try:
        return follow_job(client, job["id"])
    except BaseException:
        with suppress(RequestRejected, ServiceUnreachable):
            client.fetch(calls.control_job(job["id"], "cancel"), retry_for=0)
        raise


def _cancel_earlier(client: Client) -> None:
    """Cancel the jobs of killed demos, which would compete for the workers."""
    for state in ("queued", "running"):
        for job in client.gather(calls.list_jobs(state=state), 1000)["items"]:
            if LABEL.items() <= job["labels"].items():
                client.fetch(calls.control_job(job["id"], "cancel"))


@contextmanager
def _service(port: int) -> Iterator[str]:
    """The URL of the service that already runs in this home, or of one that runs for the demo only."""
    config = settings()
    home = config.home.absolute()
    if running := read_running(home):
        _note(f"Tunewell already runs at {running['url']}: the demo uses it and leaves it running.")
        yield running["url"]
        return
    _note(f"Starting Tunewell in {home}")
    command = [sys.executable, "-m", "app.cli", "up", "--port", str(_choose_port(port))]
    without_mark = {name: value for name, value in make_child_environment(config).items() if name != MARK}
    process = subprocess.Popen(
        command,
        cwd=PROJECT,
        env=without_mark,
        text=True,
        stdout=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C reaches the demo only, which then stops this process
        preexec_fn=end_with_parent,
    )
    try:
        yield _wait_for_url(process)
    finally:
        _stop(process)


def _choose_port(port: int) -> int:
    """The requested port, or 0 (any free one) if it is taken."""
    try:
        return find_free_port("127.0.0.1", port)
    except CannotStart:
        _note(f"Port {port} is taken: using a free one.")
        return 0


def _wait_for_url(process: "subprocess.Popen[str]") -> str:
    line = process.stdout.readline() if process.stdout else ""
    if found := re.search(r"ready at (\S+)", line):
        _note(line.rstrip())
        return found[1]
    raise CannotStart("Tunewell did not start; see the messages above.")


def _stop(process: "subprocess.Popen[str]") -> None:
    """Stop the service; a further Ctrl-C is passed on and stops it at once."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, frame: process.terminate())
    process.terminate()
    process.wait()


def _note(text: str) -> None:
    """A progress line on stdout: the demo goes on if nobody reads it."""
    write_note(text, sys.stdout)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt
