"""The `tunewell` command: a thin shell over the HTTP client and the one-machine launcher."""

import json
import re
import shlex
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from app.cli.exit_codes import Commands

if TYPE_CHECKING:  # imported where it is used, so that `tunewell --help` does not wait for it
    from app.cli.client import Client

EXIT_CODES = (
    "Exit codes: 0 done; 1 the job failed or was cancelled, or `up` or `demo` cannot run; 2 bad file, spec or usage; "
    "3 service unreachable; 4 the output could not be written; 141 its reader closed the pipe."
)
FAILED, BAD_REQUEST, UNREACHABLE, INTERRUPTED = 1, 2, 3, 130

cli = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help=f"Hyperparameter tuning jobs: run the service, post a search, watch it, fetch the best.\n\n{EXIT_CODES}",
)


def _checked_key(key: str | None) -> str | None:
    if key is not None and not re.fullmatch(r"[!-~]{1,255}", key):
        raise typer.BadParameter("1 to 255 ASCII characters without spaces are wanted")
    return key


def _show_version(wanted: bool) -> None:
    if wanted:
        from app.tuning import __version__

        print(f"tunewell {__version__}")
        raise typer.Exit


Url = Annotated[str, typer.Option(envvar="TUNEWELL_URL", help="Where the service is.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else.")]
JobId = Annotated[str, typer.Argument(metavar="ID", help="The job's id.")]
Limit = Annotated[int, typer.Option(min=1, help="How many at most.")]
Key = Annotated[
    str | None,
    typer.Option(callback=_checked_key, help="A name of your own for this post: repeated with it, it makes one job."),
]
DEFAULT_URL = "http://127.0.0.1:8000"


class State(StrEnum):
    """The states that `list` can be narrowed to."""

    QUEUED = "queued"
    RUNNING = "running"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Sort(StrEnum):
    """The orders that `trials` can be listed in."""

    BEST_FIRST = "-validation_accuracy"
    WORST_FIRST = "validation_accuracy"
    NUMBER = "number"


class Form(StrEnum):
    """The formats that `results` come in."""

    JSON = "json"
    CSV = "csv"


@cli.callback()
def main(version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True)] = False) -> None:
    """Hold the options that come before a command."""


@cli.command()
def up(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port to listen on; 0 takes a free one.")] = 8000,
    workers: Annotated[int | None, typer.Option(min=0, help="Worker processes.", show_default="one a core")] = None,
) -> None:
    """Run broker, API and workers here until Ctrl-C, and start again whichever of them dies."""
    with installed():
        from app.local.launcher import run_up
    raise typer.Exit(run_up(host, port, workers))


@cli.command()
def demo(port: Annotated[int, typer.Option(help="The port to try first.")] = 8000) -> None:
    """Run the article's grid search from start to end on this machine, then stop everything."""
    with installed():
        from app.cli.demo import run_demo
    raise typer.Exit(run_demo(port))


@cli.command()
def submit(
    file: Annotated[str, typer.Argument(metavar="FILE", help="The job as JSON; - reads it from stdin.")],
    wait: Annotated[bool, typer.Option("--wait", help="Watch the job, then print its best.")] = False,
    key: Key = None,
    as_json: Json = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Post a job."""
    from app.cli import output

    with open_client(url, as_json) as client:
        job = _post(client, file, _spec(file, as_json), key or str(uuid.uuid4()))
        if wait:
            _say_submitted(job, sys.stderr)
            job = _follow(client, job["id"])
            if job["state"] == "succeeded":
                best = client.best(job["id"])
                output.print_json(best) if as_json else output.print_best(best)
                return
            _end_with(job, as_json)
        if as_json:
            output.print_json(job)
        else:
            _say_submitted(job, sys.stdout)
            output.print_space(job["spec"])
            print(f"Watch it with: tunewell watch {job['id']}")


@cli.command("list")
def list_jobs(
    state: Annotated[State | None, typer.Option(help="Only jobs in this state.")] = None,
    limit: Limit = 20,
    as_json: Json = False,
    url: Url = DEFAULT_URL,
) -> None:
    """List jobs, the newest first."""
    from app.cli import output

    with open_client(url, as_json) as client:
        page = client.jobs(limit, **({"state": state.value} if state else {}))
        output.print_json(page) if as_json else output.print_jobs(page["items"])


@cli.command()
def show(job_id: JobId, as_json: Json = False, url: Url = DEFAULT_URL) -> None:
    """Show one job."""
    from app.cli import output

    with open_client(url, as_json) as client:
        job = client.job(job_id)
        output.print_json(job) if as_json else output.print_job(job)


@cli.command()
def watch(job_id: JobId, as_json: Json = False, url: Url = DEFAULT_URL) -> None:
    """Follow a job until it has ended."""
    with open_client(url, as_json) as client:
        _end_with(_follow(client, job_id), as_json)


@cli.command()
def best(job_id: JobId, as_json: Json = False, url: Url = DEFAULT_URL) -> None:
    """Print the best hyperparameters, so far or for good."""
    from app.cli import output

    with open_client(url, as_json) as client:
        found = client.best(job_id)
        output.print_json(found) if as_json else output.print_best(found)


@cli.command()
def trials(
    job_id: JobId,
    sort: Annotated[Sort, typer.Option(help="The order; failed trials come last.")] = Sort.BEST_FIRST,
    limit: Limit = 20,
    as_json: Json = False,
    url: Url = DEFAULT_URL,
) -> None:
    """List a job's trials."""
    from app.cli import output

    with open_client(url, as_json) as client:
        page = client.trials(job_id, limit, sort=sort.value)
        output.print_json(page) if as_json else output.print_trials(page["items"])


@cli.command()
def results(job_id: JobId, form: Annotated[Form, typer.Option("--format")] = Form.CSV, url: Url = DEFAULT_URL) -> None:
    """Print all finished trials as scikit-learn's cv_results_."""
    with open_client(url, form is Form.JSON) as client:
        print(client.results(job_id, form.value).rstrip("\r\n"))


@cli.command()
def cancel(job_id: JobId, as_json: Json = False, url: Url = DEFAULT_URL) -> None:
    """Cancel a job: what is queued at once, what runs within seconds."""
    from app.cli import output

    with open_client(url, as_json) as client:
        job = client.cancel(job_id)
        output.print_json(job) if as_json else print(f"Job {job['id']} is {job['state']}.")


@cli.command()
def delete(job_id: JobId, as_json: Json = False, url: Url = DEFAULT_URL) -> None:
    """Delete a job that has ended, with all its trials."""
    from app.cli import output

    with open_client(url, as_json) as client:
        client.delete(job_id)
        output.print_json({"id": job_id, "deleted": True}) if as_json else print(f"Job {job_id} is deleted.")


@contextmanager
def open_client(url: str, as_json: bool) -> "Iterator[Client]":
    """A client whose failures end the command with the exit code that scripts rely on."""
    from app.cli.client import RequestRejected, ServiceUnreachable
    from app.cli.output import print_problem

    try:
        with _client(url) as client:
            yield client
    except RequestRejected as refused:
        print_problem(refused.problem)
        _fail(BAD_REQUEST, refused.problem, as_json)
    except ServiceUnreachable as error:
        _note(str(error))
        if error.absent:
            _note("Start it with `tunewell up`, or say where it is with --url or TUNEWELL_URL.")
        if error.maybe_done:
            _note("It may have been done all the same. The same command again does no harm.")
        _fail(UNREACHABLE, {"title": "Service unreachable", "detail": str(error)}, as_json)


def _client(url: str) -> "Client":
    from app.cli.client import Client

    try:
        return Client(url, _note)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--url") from None


@contextmanager
def installed() -> Iterator[None]:
    """Imports of what only a whole installation has: an image of the API alone runs no other parts."""
    try:
        yield
    except ModuleNotFoundError as error:
        _note(f"This needs all of Tunewell, and {error.name} is not installed here. In containers: docker compose up")
        raise typer.Exit(FAILED) from None


def _note(text: str) -> None:
    print(text, file=sys.stderr)


def _fail(code: int, document: dict[str, Any], as_json: bool) -> NoReturn:
    if as_json:
        print(json.dumps(document, indent=2))
    raise typer.Exit(code)


def _spec(file: str, as_json: bool) -> bytes:
    from app.cli.spec_file import BadFile, read_spec_file

    try:
        return read_spec_file(file)
    except BadFile as error:
        _note(str(error))
        _fail(BAD_REQUEST, {"title": "Bad file", "detail": str(error)}, as_json)


def _post(client: "Client", file: str, spec: bytes, key: str) -> dict[str, Any]:
    """The posted job; where it stays unknown whether it was accepted, say so and how to repeat it."""
    from app.cli.client import ServiceUnreachable

    again = shlex.join(["tunewell", "submit", file, "--key", key])
    advice = f"The job may have been accepted all the same. To repeat it and get one job only: {again}"
    try:
        return client.create(spec, key)
    except ServiceUnreachable as error:
        raise (ServiceUnreachable(f"{error}. {advice}") if error.maybe_done else error) from None
    except KeyboardInterrupt:
        _note(advice)
        raise typer.Exit(INTERRUPTED) from None


def _say_submitted(job: dict[str, Any], stream: Any) -> None:
    what = f"{job['trials']['total']:,} trials, {job['fits']['total']:,} fits"
    print(f"Job {job['id']}: {what}", file=stream)


def _follow(client: "Client", job_id: str) -> dict[str, Any]:
    """Show the job's progress until it has ended; Ctrl-C leaves the job alone."""
    from app.cli.client import ServiceUnreachable
    from app.cli.progress import follow_job

    try:
        return follow_job(client, job_id)
    except ServiceUnreachable:
        _note(f"To watch the job again: tunewell watch {job_id}")
        raise
    except KeyboardInterrupt:
        print(f"The job goes on. Cancel it with: tunewell cancel {job_id}", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None


def _end_with(job: dict[str, Any], as_json: bool) -> NoReturn:
    """Print how the job ended and leave with the code that says the same."""
    from app.cli import output

    output.print_json(job) if as_json else output.print_job(job)
    raise typer.Exit(0 if job["state"] == "succeeded" else FAILED)
