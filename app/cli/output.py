"""Turns the service's answers into what people read on stdout: tables, summaries, and problems on stderr."""

import json
import sys
from collections.abc import Iterable
from itertools import compress
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.cli.progress import describe_counts, format_duration

UNLIMITED = 100_000  # columns: what is piped is never cut off or wrapped


def print_json(document: Any) -> None:
    print(json.dumps(document, indent=2))


def print_problem(problem: dict[str, Any]) -> None:
    """The problem's detail and, for a bad body, one line for each error."""
    print(f"Refused: {problem.get('detail') or problem.get('title')}", file=sys.stderr)
    for error in problem.get("errors") or []:
        print(f"  {error.get('pointer') or '(the whole body)'}: {error.get('message')}", file=sys.stderr)


def print_table(columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    """Rows under their headings; long cells are folded on a terminal and left whole elsewhere."""
    terminal = sys.stdout.isatty()
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(Text(column), overflow="fold", no_wrap=not terminal or column == "id")
    for row in rows:
        table.add_row(*(Text(_format_cell(value)) for value in row))
    console = Console(width=None if terminal else UNLIMITED, highlight=False)
    with console.capture() as text:  # printed here: rich itself would end the process when the pipe is closed
        console.print(table)
    print(text.get(), end="")


def print_jobs(jobs: list[dict[str, Any]]) -> None:
    rows = (
        (
            job["id"],
            job["name"],
            job["state"],
            _format_share(job),
            _format_accuracy(job["best"]),
            job["created_at"][:19] + "Z",
        )
        for job in jobs
    )
    print_table(["id", "name", "state", "fits", "best", "created"], rows)


def print_trials(trials: list[dict[str, Any]]) -> None:
    """One row a trial with one column for each hyperparameter; a column that would say nothing is left out."""
    names = sorted({name for trial in trials for name in trial["params"]})
    columns = ["rank", "trial", *names, "accuracy", "std", "seconds", "state", "error"]
    rows = [_trial_row(trial, names) for trial in trials]
    told = [any(row[i] not in {None, "succeeded"} for row in rows) for i in range(len(columns))]
    print_table(compress(columns, told), (compress(row, told) for row in rows))


def print_job(job: dict[str, Any]) -> None:
    print(f"Job {job['id']}" + (f" ({job['name']})" if job["name"] else ""))
    print(f"  state    {job['state']}, {describe_counts(job)}" + _failed_trials(job))
    if job["eta_seconds"]:
        print(f"  left     about {format_duration(job['eta_seconds'])}")
    if job["best"]:
        print(f"  best     {job['best']['validation_accuracy']:.4f} with {_format_params(job['best']['params'])}")
    if job["error"]:
        print(f"  error    {job['error']['type']}: {_printable(job['error']['message'])}")
    print_space(job["spec"])


def print_space(spec: dict[str, Any]) -> None:
    """What is searched, each distribution with the values that it can really take."""
    search = spec["search"]
    spaces = search.get("param_grid") or search.get("param_distributions") or []
    for space in spaces if isinstance(spaces, list) else [spaces]:
        for name, values in space.items():
            print(f"  {name}: {describe_support(values)}")


def describe_support(values: Any) -> str:
    """The support of a list or distribution in words, as in `uniform, 0.1 to 0.4`."""
    if not isinstance(values, dict):
        return ", ".join(_format_cell(value) for value in values)
    low, high = values.get("low"), values.get("high")
    if low is None or high is None:
        low, high = values["loc"], values["loc"] + values["scale"]
    if values["distribution"] == "randint":
        high -= 1  # scipy's upper bound is not drawn
    return f"{values['distribution']}, {low:.12g} to {high:.12g}"


def print_best(best: dict[str, Any]) -> None:
    validation, test = best["validation"], best["test"]
    print("Best hyperparameters" + ("" if best["final"] else " so far") + f" (trial {best['trial']}):")
    for name, value in best["params"].items():
        print(f"  {name} {_format_cell(value)}")
    spread = f"{validation['std_accuracy']:.4f} over {len(validation['fold_accuracies'])} folds"
    print(f"Validation accuracy {validation['mean_accuracy']:.4f}, standard deviation {spread}")
    if test:
        low, high = test["accuracy_ci95"]
        print(
            f"Test accuracy {test['accuracy']:.4f} (95% interval {low:.4f} to {high:.4f}, {test['samples']:,} samples)"
        )


def _trial_row(trial: dict[str, Any], names: list[str]) -> list[Any]:
    accuracy, spread, seconds = trial["validation_accuracy"], trial["validation_accuracy_std"], trial["fit_seconds"]
    error = trial["error"]
    return [
        trial["rank"],
        trial["number"],
        *(trial["params"].get(name) for name in names),
        None if accuracy is None else f"{accuracy:.4f}",
        None if spread is None else f"{spread:.4f}",
        None if seconds is None else f"{seconds:.1f}",
        trial["state"],
        error and f"{error['type']}: {error['message']}",
    ]


def _failed_trials(job: dict[str, Any]) -> str:
    failed = job["trials"]["failed"]
    return f"; {failed} of {job['trials']['total']} trials failed" if failed else ""


def _format_share(job: dict[str, Any]) -> str:
    fits = job["fits"]
    return f"{fits['succeeded'] + fits['failed'] + fits['cancelled']}/{fits['total']}"


def _format_accuracy(best: dict[str, Any] | None) -> str | None:
    return f"{best['validation_accuracy']:.4f}" if best else None


def _format_params(params: dict[str, Any]) -> str:
    return ", ".join(f"{name} {_format_cell(value)}" for name, value in params.items())


def _format_cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.6g}" if isinstance(value, float) else _printable(str(value))


def _printable(text: str) -> str:
    """The text on one line, without control characters that a terminal would obey."""
    return "".join(character if character.isprintable() else " " for character in text)
