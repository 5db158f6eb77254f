"""The example grid with 27 epochs: the best that halving finds for a ninth of them, and that of the whole search."""

import json
from collections.abc import Iterator
from typing import Any

from benchmarks import article, services
from benchmarks.rows import Row, Size
from tunewell import Client

PART = "strategies.long"
WORKERS = 2
Found = dict[str, Any]


def measure(size: Size) -> Iterator[Row]:
    """Halving, then a lossless race, whose winner is the whole search's; it goes on from halving's fits."""
    epochs = size.of(27, 3)
    with services.tunewell(WORKERS) as service, Client(service.url) as client:
        halving, race = (_search(client, spec) for spec in _make_specs(epochs))
    whole = len(race["table"]) * epochs
    for name, found, trained in (
        ("halving", halving, halving["epochs"]),
        ("the whole search, by a lossless race", race, race["fits"] * epochs / article.FOLDS),
    ):
        share = f"{trained:.0f} of {whole} epochs a fold"
        best, deviation = found["best"]["params"], found["best"]["validation"]["std_accuracy"]
        note = f"{share}; best {best['learning_rate']}, {best['dropout_rate']}, {best['num_neurons']}, "
        note += f"deviation over the folds {deviation:.4f}"
        accuracy = found["best"]["validation"]["mean_accuracy"]
        yield Row(PART, f"mean accuracy of the best of {name}", accuracy, note=note, details=found)


def _make_specs(epochs: int) -> Iterator[Found]:
    plain: Found = json.loads(json.dumps(article.SPEC)) | {"limits": {"reuse": True}}
    rungs = {"strategy": "halving_grid", "max_resources": epochs, "factor": 3, "param_grid": article.GRID}
    fixed = {name: value for name, value in plain["fixed"].items() if name != "epochs"}
    evaluation = {"cv": article.FOLDS, "refit": False}
    yield {**plain, "fixed": fixed, "search": rungs, "evaluation": evaluation}
    race = {**evaluation, "race": {"method": "lossless"}}
    yield {**plain, "fixed": {**fixed, "epochs": epochs}, "evaluation": race}


def _search(client: Client, spec: Found) -> Found:
    posted = client.submit(spec).wait(progress=False)
    job = posted.document
    if job["state"] != "succeeded":
        raise RuntimeError(f"the job {job['state']}: {job['error']}")
    trials = posted.trials()
    names = ("params", "state", "n_resources", "validation_accuracy", "validation_accuracy_std")
    reached = [0, *(rung["n_resources"] for rung in job["rungs"])]
    epochs = sum(
        rung["n_candidates"] * (rung["n_resources"] - before)
        for rung, before in zip(job["rungs"], reached, strict=False)
    )
    return {
        "best": posted.best(),
        "fits": job["fits"]["succeeded"],
        "epochs": epochs,
        "table": [{name: trial[name] for name in names} for trial in trials],
    }
