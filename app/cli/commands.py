"""The `tunewell` command: a thin layer over the HTTP client and the one-machine launcher."""

import json
import re
import shlex
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer

from app.cli.exit_codes import Commands

if TYPE_CHECKING:  # imported where used, so that `tunewell --help` stays fast
    from sqlalchemy import URL

    from tunewell import Client

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


def _check_key(key: str | None) -> str | None:
    if key is not None and not re.fullmatch(r"[!-~]{1,255}", key):
        raise typer.BadParameter("use 1 to 255 printable ASCII characters without spaces")
    return key


def _show_version(wanted: bool) -> None:
    if wanted:
        from app.tuning import __version__

        print(f"tunewell {__version__}")
        raise typer.Exit


Url = Annotated[str, typer.Option(envvar="TUNEWELL_URL", help="URL of the service.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else.")]
JobId = Annotated[str, typer.Argument(metavar="ID", help="ID of the job.")]
Limit = Annotated[int, typer.Option(min=1, help="Maximum number of entries.")]
Key = Annotated[
    str | None,
    typer.Option(callback=_check_key, help="Idempotency key: posts repeated with the same key create one job."),
]
DEFAULT_URL = "http://127.0.0.1:8000"
# Repeated here, because importing the domain's would load SQLAlchemy; a test compares them.
_JobState = Literal["queued", "running", "paused", "cancelling", "succeeded", "failed", "cancelled"]
_TrialSort = Literal["-validation_score", "validation_score", "-validation_accuracy", "validation_accuracy", "number"]
_ResultsFormat = Literal["json", "csv"]
_Task = Literal["classification", "regression"]
_Color = Literal["grayscale", "rgb"]
_ModelFormat = Literal["keras", "joblib", "onnx"]


@cli.callback()
def main(version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True)] = False) -> None:
    """Take the options that precede a command."""


@cli.command("up")
def up_command(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port to listen on; 0 takes a free one.")] = 8000,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Worker processes.", show_default="one per GPU, else one per core")
    ] = None,
) -> None:
    """Run broker, API and workers here until Ctrl-C."""
    with require_full_installation():
        from app.local.launcher import run_up
    raise typer.Exit(run_up(host, port, workers))


@cli.command("demo")
def demo_command(port: Annotated[int, typer.Option(help="The port to try first.")] = 8000) -> None:
    """Run an example search here, then stop everything."""
    with require_full_installation():
        from app.cli.demo import run_demo
    raise typer.Exit(run_demo(port))


@cli.command("backup")
def backup_command(file: Annotated[Path, typer.Argument(help="The file to write; what it held is replaced.")]) -> None:
    """Write database and storage of this machine's settings to a file, while the service runs."""
    with _saving() as url:
        from app.tuning.backup import back_up

        made = back_up(url, file)
    print(f"{file}: {made.kind} database and {made.files} stored files of {made.created_at}")


@cli.command("restore")
def restore_command(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="What `tunewell backup` has written.")],
    replace: Annotated[bool, typer.Option("--replace", help="Drop what the database holds now.")] = False,
) -> None:
    """Put a backup into the database and storage of this machine's settings; stop the workers first."""
    with _saving() as url:
        from app.tuning.backup import restore

        made = restore(url, file, replace)
    print(f"Restored: {made.kind} database and {made.files} stored files of {made.created_at}")


@contextmanager
def _saving() -> "Iterator[URL]":
    """The database's URL; what a backup fails with ends the command."""
    with require_full_installation():
        from sqlalchemy.exc import SQLAlchemyError

        from app.tuning import outages
        from app.tuning.backup import BackupError
        from app.tuning.settings import settings
        from app.tuning.storage import StorageAway
    try:
        yield settings().database
    except (BackupError, StorageAway, OSError) as error:
        _note(str(error))
        raise typer.Exit(FAILED) from None
    except SQLAlchemyError as error:
        _note(outages.explain_failure(error))
        raise typer.Exit(FAILED) from None


@cli.command("submit")
def submit_command(
    file: Annotated[str, typer.Argument(metavar="FILE", help="JSON file with the job; - reads stdin.")],
    wait: Annotated[
        bool, typer.Option("--wait", help="Watch the job until it ends, then print the best hyperparameters.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Post nothing; print what the job would come to, or why it is rejected.")
    ] = False,
    key: Key = None,
    as_json: Json = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Post a job."""
    from app.cli import output
    from tunewell import calls

    if dry_run and wait:
        raise typer.BadParameter("a job that is not posted cannot be watched: leave out --wait", param_hint="--dry-run")
    with open_client(url, as_json) as client:
        if dry_run:
            preview = client.preview(_read_spec(file, as_json))
            output.print_json(preview) if as_json else output.print_preview(preview)
            return
        job = _post(client, file, _read_spec(file, as_json), key or str(uuid.uuid4()))
        if wait:
            _print_submitted(job, sys.stderr)
            job = _follow(client, job["id"])
            if job["state"] == "succeeded":
                best = client.fetch(calls.show_best(job["id"]))
                output.print_json(best) if as_json else output.print_best(best)
                return
            _end_with(job, as_json)
        if as_json:
            output.print_json(job)
        else:
            _print_submitted(job, sys.stdout)
            output.print_space(job["spec"])
            print(f"Watch it with: tunewell watch {job['id']}")


@cli.command("list")
def list_command(
    state: Annotated[_JobState | None, typer.Option(help="Only jobs in this state.")] = None,
    limit: Limit = 20,
    as_json: Json = False,
    url: Url = DEFAULT_URL,
) -> None:
    """List jobs, newest first."""
    from app.cli import output
    from tunewell import calls

    with open_client(url, as_json) as client:
        page = client.gather(calls.list_jobs(**({"state": state} if state else {})), limit)
        output.print_json(page) if as_json else output.print_jobs(page["items"])


@cli.command("show")
def show_command(job_id: JobId, as_json: Json = False, url: Url = DEFAULT_URL) -> None:
    """Show one job."""
    from app.cli import output
    from tunewell import calls

    with open_client(url, as_json) as client:
        job = client.fetch(calls.show_job(job_id))
        output.print_json(job) if as_json else output.print_job(job)


@cli.command("watch")
def watch_command(job_id: JobId, as_json: Json = False, url: Url = DEFAULT_URL) -> None:
    """Follow a job until it ends."""
    with open_client(url, as_json) as client:
        _end_with(_follow(client, job_id), as_json)


@cli.command("best")
def best_command(job_id: JobId, as_json: Json = False, url: Url = DEFAULT_URL) -> None:
    """Print the best hyperparameters found so far."""
    from app.cli import output
    from tunewell import calls

    with open_client(url, as_json) as client:
        found = client.fetch(calls.show_best(job_id))
        output.print_json(found) if as_json else output.print_best(found)


@cli.command("trials")
def trials_command(
    job_id: JobId,
    sort: Annotated[_TrialSort, typer.Option(help="Sort order; failed trials come last.")] = "-validation_score",
    limit: Limit = 20,
    as_json: Json = False,
    url: Url = DEFAULT_URL,
) -> None:
    """List a job's trials."""
    from app.cli import output
    from tunewell import calls

    with open_client(url, as_json) as client:
        page = client.gather(calls.list_trials(job_id, sort=sort), limit)
        output.print_json(page) if as_json else output.print_trials(page["items"])


@cli.command("results")
def results_command(
    job_id: JobId, form: Annotated[_ResultsFormat, typer.Option("--format")] = "csv", url: Url = DEFAULT_URL
) -> None:
    """Print all finished trials as scikit-learn's cv_results_."""
    from tunewell import calls

    with open_client(url, form == "json") as client:
        print(client.run(client.service.read_text(calls.show_results(job_id, form))).rstrip("\r\n"))


@cli.command("model")
def model_command(
    job_id: JobId,
    form: Annotated[_ModelFormat | None, typer.Option("--format", help="Default: Keras's or joblib's own.")] = None,
    output: Annotated[Path | None, typer.Option(help="File or folder to write to.", show_default="here")] = None,
    as_json: Json = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Download the model that was trained with the best hyperparameters; its digest is checked.

    A joblib file is a program: load it only if you trust the service.
    """
    from tunewell import Model, RequestRejected, ServiceUnreachable, calls
    from tunewell.errors import Error

    with open_client(url, as_json) as client:
        manifest = client.fetch(calls.show_model(job_id))
        try:
            target = Model(client, job_id, manifest).download(output, form)
        except (RequestRejected, ServiceUnreachable):
            raise
        except (Error, ValueError, OSError) as error:
            reason = manifest["left_out"].get(form)
            detail = f"{error}: {reason}" if reason else str(error)
            _note(detail)
            _fail(BAD_REQUEST, {"title": "Bad download", "detail": detail}, as_json)
    print(json.dumps({**manifest, "file": str(target)}, indent=2) if as_json else target)


@cli.command("cancel")
def cancel_command(job_id: JobId, as_json: Json = False, url: Url = DEFAULT_URL) -> None:
    """Cancel a job; running fits stop within seconds."""
    _control(job_id, "cancel", url, as_json)


@cli.command("pause")
def pause_command(job_id: JobId, as_json: Json = False, url: Url = DEFAULT_URL) -> None:
    """Pause a job; running fits are given back within seconds."""
    _control(job_id, "pause", url, as_json)


@cli.command("resume")
def resume_command(job_id: JobId, as_json: Json = False, url: Url = DEFAULT_URL) -> None:
    """Go on with a paused job."""
    _control(job_id, "resume", url, as_json)


@cli.command("retry")
def retry_command(job_id: JobId, as_json: Json = False, url: Url = DEFAULT_URL) -> None:
    """Train a job's failed fits again."""
    _control(job_id, "retry", url, as_json)


def _control(job_id: str, verb: str, url: str, as_json: bool) -> None:
    from app.cli import output
    from tunewell import calls

    with open_client(url, as_json) as client:
        job = client.fetch(calls.control_job(job_id, verb))
        output.print_json(job) if as_json else print(f"Job {job['id']} is {job['state']}.")


@cli.command("delete")
def delete_command(job_id: JobId, as_json: Json = False, url: Url = DEFAULT_URL) -> None:
    """Delete an ended job with all its trials."""
    from app.cli import output
    from tunewell import calls

    with open_client(url, as_json) as client:
        client.run(client.service.send(calls.delete_job(job_id)))
        output.print_json({"id": job_id, "deleted": True}) if as_json else print(f"Job {job_id} is deleted.")


@cli.command("upload")
def upload_command(
    path: Annotated[
        str,
        typer.Argument(metavar="FILE_OR_FOLDER", help="npz, CSV, zip of image folders or of IDX files, or a folder."),
    ],
    name: Annotated[str | None, typer.Option(help="Name of the data set.", show_default="the file's")] = None,
    target: Annotated[str | None, typer.Option(help="The column to predict.", show_default="the last")] = None,
    task: Annotated[_Task | None, typer.Option(show_default="classification")] = None,
    exclude: Annotated[str | None, typer.Option(help="Columns to leave out, separated by commas.")] = None,
    test_share: Annotated[
        float | None, typer.Option(help="Share of the test set, if the file has none.", show_default="0.2")
    ] = None,
    random_state: Annotated[int | None, typer.Option(help="Seed of the shuffle and of that cut.")] = None,
    image_size: Annotated[str | None, typer.Option(help="Such as 28x28; other images are resized.")] = None,
    color: Annotated[_Color | None, typer.Option(show_default="as most images are")] = None,
    image_shape: Annotated[str | None, typer.Option(help="Such as 28x28x1: each row of the file is an image.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Store nothing; print what would be.")] = False,
    as_json: Json = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Upload a data set for jobs to use."""
    from app.cli import output
    from app.cli.spec_file import suggest_name

    given = {"target": target, "task": task, "exclude": exclude, "test_share": test_share, "random_state": random_state}
    given |= {"image_size": image_size, "color": color, "image_shape": image_shape, "dry_run": dry_run or None}
    with _reject_bad_file(as_json), open_client(url, as_json) as client:
        dataset = client.upload(name or suggest_name(path), path, **given)
    output.print_json(dataset) if as_json else output.print_dataset(dataset, stored=not dry_run)


@cli.command("datasets")
def datasets_command(limit: Limit = 100, as_json: Json = False, url: Url = DEFAULT_URL) -> None:
    """List the data sets that jobs can use."""
    from app.cli import output
    from tunewell import calls

    with open_client(url, as_json) as client:
        page = client.gather(calls.list_datasets(), limit)
        output.print_json(page) if as_json else output.print_datasets(page["items"])


@contextmanager
def open_client(url: str, as_json: bool) -> "Iterator[Client]":
    """A client whose errors end the command with the documented exit code."""
    from app.cli.output import print_problem
    from tunewell import RequestRejected, ServiceUnreachable

    try:
        with _make_client(url) as client:
            yield client
    except RequestRejected as error:
        print_problem(error.problem)
        _fail(BAD_REQUEST, error.problem, as_json)
    except ServiceUnreachable as error:
        _note(str(error))
        if error.absent:
            _note("Start it with `tunewell up`, or set its URL with --url or TUNEWELL_URL.")
        if error.maybe_done:
            _note("The change may have been made. It is safe to repeat the command.")
        _fail(UNREACHABLE, {"title": "Service unreachable", "detail": str(error)}, as_json)


def _make_client(url: str) -> "Client":
    from tunewell import Client

    try:
        return Client(url, note=_note)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--url") from None


@contextmanager
def require_full_installation() -> Iterator[None]:
    """Explain a missing package: the API's container image cannot run `up` and `demo`."""
    try:
        yield
    except ModuleNotFoundError as error:
        _note(f"A full installation is needed: {error.name} is not installed here. In containers: docker compose up")
        raise typer.Exit(FAILED) from None


def _note(text: str) -> None:
    print(text, file=sys.stderr)


def _fail(code: int, document: dict[str, Any], as_json: bool) -> NoReturn:
    if as_json:
        print(json.dumps(document, indent=2))
    raise typer.Exit(code)


def _read_spec(file: str, as_json: bool) -> bytes:
    from app.cli.spec_file import read_spec_file

    with _reject_bad_file(as_json):
        return read_spec_file(file)


@contextmanager
def _reject_bad_file(as_json: bool) -> Iterator[None]:
    from app.cli.spec_file import BadFile

    try:
        yield
    except (BadFile, OSError) as error:
        if isinstance(error, OSError) and error.filename is None:  # the output could not be written
            raise
        text = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)
        _note(text)
        _fail(BAD_REQUEST, {"title": "Bad file", "detail": text}, as_json)


def _post(client: "Client", file: str, spec: bytes, key: str) -> dict[str, Any]:
    """Post the job; if its fate is unknown, say how to repeat it without creating a second one."""
    from tunewell import ServiceUnreachable, calls

    again = shlex.join(["tunewell", "submit", file, "--key", key])
    advice = f"The job may have been accepted. To retry without creating a second job: {again}"
    try:
        return client.fetch(calls.create_job(spec, key))
    except ServiceUnreachable as error:
        raise (ServiceUnreachable(f"{error}. {advice}") if error.maybe_done else error) from None
    except KeyboardInterrupt:
        _note(advice)
        raise typer.Exit(INTERRUPTED) from None


def _print_submitted(job: dict[str, Any], stream: Any) -> None:
    what = f"{job['trials']['total']:,} trials, {job['fits']['total']:,} fits"
    print(f"Job {job['id']}: {what}", file=stream)


def _follow(client: "Client", job_id: str) -> dict[str, Any]:
    """Show the job's progress until it ends; Ctrl-C does not cancel the job."""
    from app.cli.progress import follow_job
    from tunewell import ServiceUnreachable

    try:
        return follow_job(client, job_id)
    except ServiceUnreachable:
        _note(f"To watch the job again: tunewell watch {job_id}")
        raise
    except KeyboardInterrupt:
        print(f"The job keeps running. Cancel it with: tunewell cancel {job_id}", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None


def _end_with(job: dict[str, Any], as_json: bool) -> NoReturn:
    """Print how the job ended, and exit with the code for it."""
    from app.cli import output

    output.print_json(job) if as_json else output.print_job(job)
    raise typer.Exit(0 if job["state"] == "succeeded" else FAILED)
