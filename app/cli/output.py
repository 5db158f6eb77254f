"""Prints the service's responses for people: tables and summaries on stdout, problems on stderr."""

import json
import sys
from collections.abc import Iterable
from itertools import compress
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.cli.formatting import (
    count_done,
    describe_counts,
    format_duration,
    format_params,
    format_value,
    make_printable,
)

MAX_PIPE_WIDTH = 100_000  # columns, so that piped output is never wrapped or cut off
MAX_TIED = 5  # trials that are named
MAX_CLASSES = 30  # of a data set that are listed


def print_json(document: Any) -> None:
    print(json.dumps(document, indent=2))


def print_problem(problem: dict[str, Any]) -> None:
    """The problem's detail and, for a bad body, one line for each error."""
    print(f"Rejected: {problem.get('detail') or problem.get('title')}", file=sys.stderr)
    for error in problem.get("errors") or []:
        print(f"  {_describe_place(error)}: {make_printable(str(error.get('message')))}", file=sys.stderr)


def _describe_place(error: dict[str, Any]) -> str:
    """Where an error is: a row and column of a table, a file of an archive, or a part of the body."""
    places = [f"{name} {error[name]}" for name in ("file", "row", "column") if error.get(name) is not None]
    return make_printable(", ".join(places)) or error.get("pointer") or "(the whole body)"


def print_table(columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    """Rows under headings; long cells are folded on a terminal only."""
    terminal = sys.stdout.isatty()
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(Text(column), overflow="fold", no_wrap=not terminal or column == "id")
    for row in rows:
        table.add_row(*(Text(format_value(value)) for value in row))
    console = Console(width=None if terminal else MAX_PIPE_WIDTH, highlight=False)
    with console.capture() as text:  # printed below: rich itself ends the process when the pipe is closed
        console.print(table)
    print(text.get(), end="")


def print_jobs(jobs: list[dict[str, Any]]) -> None:
    rows = (
        (
            job["id"],
            job["name"],
            job["state"],
            _format_done(job),
            _format_score(job["best"]),
            job["created_at"][:19] + "Z",
        )
        for job in jobs
    )
    print_table(["id", "name", "state", "fits", "best", "created"], rows)


def print_trials(trials: list[dict[str, Any]]) -> None:
    """One row per trial, one column per hyperparameter; columns without information are left out."""
    names = sorted({name for trial in trials for name in trial["params"]})
    score = "accuracy" if all(one["validation_score"] == one["validation_accuracy"] for one in trials) else "score"
    columns = ["rank", "trial", *names, score, "std", "seconds", "state", "error"]
    rows = [_make_trial_row(trial, names) for trial in trials]
    informative = [any(row[i] not in {None, "succeeded"} for row in rows) for i in range(len(columns))]
    print_table(compress(columns, informative), (compress(row, informative) for row in rows))


def print_job(job: dict[str, Any]) -> None:
    print(f"Job {job['id']}" + (f" ({job['name']})" if job["name"] else ""))
    print(f"  state    {job['state']}, {describe_counts(job)}" + _describe_failed_trials(job))
    if job["eta_seconds"]:
        print(f"  left     about {format_duration(job['eta_seconds'])}")
    if job["best"]:
        scoring = "" if job["scoring"] in (None, "accuracy") else f"{job['scoring']} "
        params = format_params(job["best"]["params"])
        print(f"  best     {scoring}{job['best']['validation_score']:.4f} with {params}")
    if job["error"]:
        print(f"  error    {job['error']['type']}: {make_printable(job['error']['message'])}")
    print_space(job["spec"])


def print_preview(preview: dict[str, Any]) -> None:
    """What a job would come to, and its first candidates."""
    print(f"Not posted: {preview['trials']:,} trials, {preview['fits']:,} fits")
    notes = [f"{preview[name]:,} {name}" for name in ("skipped", "duplicates") if preview[name]]
    rungs = [f"{rung['n_candidates']:,} with {rung['n_resources']:,}" for rung in preview["rungs"]]
    for title, text in (
        ("points", ", ".join(notes)),
        ("rungs", ", ".join(rungs)),
        ("epochs", _format_epochs(preview)),
        ("time", _format_seconds(preview["seconds"])),
    ):
        if text:
            print(f"  {title:<8} {text}")
    for space in preview["supports"]:
        for name, words in space.items():
            print(f"  {name}: {make_printable(words)}")
    names = sorted({name for params in preview["first"] for name in params})
    if names:
        print("First candidates:")
        print_table(names, ([params.get(name) for name in names] for params in preview["first"]))


def print_dataset(dataset: dict[str, Any], stored: bool) -> None:
    """What a data set has: samples, how they are spread over the classes, and what the service warns of."""
    shape = "x".join(map(str, dataset["shape"]))
    kind = f"images of {shape}" if len(dataset["shape"]) > 1 else f"rows of {shape} numbers"
    print(f"{'' if stored else 'Not stored: '}{dataset['name']}: {kind}")
    print(f"  samples  {dataset['train_samples']:,} for training, {dataset['test_samples']:,} for the test")
    if names := dataset.get("class_names"):
        print(f"  classes  {len(names):,}")
        counts = zip(names, dataset["train_class_counts"], dataset["test_class_counts"], strict=True)
        print_table(["class", "training", "test"], list(counts)[:MAX_CLASSES])
        if len(names) > MAX_CLASSES:
            print(f"… and {len(names) - MAX_CLASSES:,} more: see --json")
    for warning in dataset.get("warnings") or []:
        print(f"Warning: {make_printable(warning)}", file=sys.stderr)


def print_datasets(datasets: list[dict[str, Any]]) -> None:
    rows = (
        [
            one["name"],
            one.get("task"),
            f"{one['train_samples']:,}",
            f"{one['test_samples']:,}",
            "x".join(map(str, one["shape"])),
            one["classes"] or None,
            (one.get("created_at") or "built in")[:19],
        ]
        for one in datasets
    )
    print_table(["name", "task", "training", "test", "shape", "classes", "created"], rows)


def print_space(spec: dict[str, Any]) -> None:
    """The search space, with the values that each distribution can actually take."""
    search = spec["search"]
    spaces = search.get("param_grid") or search.get("param_distributions") or []
    for space in spaces if isinstance(spaces, list) else [spaces]:
        for name, values in space.items():
            print(f"  {name}: {describe_support(values)}")


def describe_support(values: Any) -> str:
    """The support of a list or distribution in words, as in `uniform, 0.1 to 0.4`."""
    if not isinstance(values, dict):
        return ", ".join(format_value(value) for value in values)
    low, high = values.get("low"), values.get("high")
    if low is None or high is None:
        low, high = values["loc"], values["loc"] + values["scale"]
    if values["distribution"] == "randint":
        high -= 1  # scipy excludes the upper bound
    return f"{values['distribution']}, {low:.12g} to {high:.12g}"


def print_best(best: dict[str, Any]) -> None:
    validation, test = best["validation"], best["test"]
    print("Best hyperparameters" + ("" if best["final"] else " so far") + f" (trial {best['trial']}):")
    for name, value in best["params"].items():
        print(f"  {name} {format_value(value)}")
    scoring = validation["scoring"] or "score"
    spread = f"{validation['std_score']:.4f} over {len(validation['fold_scores'])} folds"
    print(f"Validation {scoring} {validation['mean_score']:.4f}, standard deviation {spread}")
    if best.get("tied") is not None and best["selection"]["n_compared"] > 1:
        print(_describe_selection(best))
    if test:
        if scoring != "accuracy":
            print(f"Test {scoring} {test['score']:.4f} ({test['samples']:,} samples)")
        if test["accuracy"] is not None:
            interval = "95% interval {:.4f} to {:.4f}".format(*test["accuracy_ci95"])
            print(f"Test accuracy {test['accuracy']:.4f} ({interval}, {test['samples']:,} samples)")


def _describe_selection(best: dict[str, Any]) -> str:
    """How sure the choice is, in one sentence."""
    tied, corrected = best["tied"], best["corrected"]
    if tied:
        numbers = ", ".join(map(str, tied[:MAX_TIED])) + (", …" if tied[MAX_TIED:] else "")
        others = f"{len(tied)} other{'s' if tied[1:] else ''} cannot be told from it ({numbers})"
    else:
        others = "no other ties with it"
    sentence = f"Trial {best['trial']} was chosen; {others}"
    if corrected:
        low, high = corrected["ci95"]
        compared = best["selection"]["n_compared"]
        sentence += f"; corrected for having picked the best of {compared}: {corrected['accuracy']:.4f}"
        sentence += f" ({low:.4f} to {high:.4f})"
    return f"{sentence}."


def _make_trial_row(trial: dict[str, Any], names: list[str]) -> list[Any]:
    score, spread, seconds = trial["validation_score"], trial["validation_score_std"], trial["fit_seconds"]
    error = trial["error"]
    return [
        trial["rank"],
        trial["number"],
        *(trial["params"].get(name) for name in names),
        None if score is None else f"{score:.4f}",
        None if spread is None else f"{spread:.4f}",
        None if seconds is None else f"{seconds:.1f}",
        trial["state"],
        error and f"{error['type']}: {error['message']}",
    ]


def _describe_failed_trials(job: dict[str, Any]) -> str:
    failed = job["trials"]["failed"]
    return f"; {failed} of {job['trials']['total']} trials failed" if failed else ""


def _format_done(job: dict[str, Any]) -> str:
    return f"{count_done(job)}/{job['fits']['total']}"


def _format_score(best: dict[str, Any] | None) -> str | None:
    return f"{best['validation_score']:.4f}" if best else None


def _format_epochs(preview: dict[str, Any]) -> str:
    more = preview["epochs_at_most"] > preview["epochs"]
    return f"{preview['epochs']:,}" + (f", {preview['epochs_at_most']:,} without checkpoints" if more else "")


def _format_seconds(seconds: dict[str, float] | None) -> str:
    if not seconds:
        return "not known: no job with this model has been measured"
    low, high = format_duration(seconds["low"]), format_duration(seconds["high"])
    return f"{low} with one worker" if low == high else f"{low} to {high} with one worker"
