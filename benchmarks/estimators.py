"""A search over a scikit-learn estimator, with fits of about a second, on two workers: Tunewell and `GridSearchCV`.

`python -m benchmarks.estimators GRID` runs the peer and prints what it has found as JSON.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from benchmarks import services
from benchmarks.machine import PROJECT
from benchmarks.rows import Row, Size
from tunewell import Client

PART = "estimators"
WORKERS = 2
FOLDS = 3
SEED = 42
TREES = 500  # which take about a second on two thirds of the digits
GRID: dict[str, list[Any]] = {"max_features": [0.05, 0.1, 0.15, 0.2], "min_samples_leaf": [1, 2, 4], "max_depth": [12]}
QUICK_GRID = {**GRID, "min_samples_leaf": [1]}
PEER = f"`GridSearchCV(n_jobs={WORKERS})`"
Run = dict[str, Any]  # seconds, the mean scores by candidate, and the seconds of a fit


def measure(size: Size) -> Iterator[Row]:
    """Measure one after the other, each alone on the machine."""
    grid = QUICK_GRID if size.quick else GRID
    peer = _run_peer(grid)
    yield Row(PART, PEER, peer["seconds"], "s", note=_describe(peer), details=peer)
    with services.tunewell(WORKERS) as service, Client(service.url) as client:
        for title in ("Tunewell, two fresh workers", "Tunewell, the same job again in warm workers"):
            run = _run_tunewell(client, grid)
            same = "equal to the last bit" if run["means"] == peer["means"] else "not equal"
            note = f"{_describe(run)}; the mean scores are {same}"
            yield Row(PART, title, run["seconds"], "s", run["seconds"] / peer["seconds"], PEER, note, details=run)


def _run_tunewell(client: Client, grid: dict[str, list[Any]]) -> Run:
    job = {
        "dataset": {"name": "digits"},
        "model": "random_forest",
        "search": {"strategy": "grid", "param_grid": grid},
        "fixed": {"n_estimators": TREES},
        "evaluation": {"cv": FOLDS},
        "random_state": SEED,
        "limits": {"reuse": False},
    }
    began = time.perf_counter()
    posted = client.submit(job).wait(progress=False)
    ended = posted.document
    seconds = time.perf_counter() - began
    if ended["state"] != "succeeded":
        raise RuntimeError(f"Tunewell's job {ended['state']}: {ended['error']}")
    trials = posted.trials(sort="number")
    return {
        "seconds": seconds,
        "means": [trial["validation_score"] for trial in trials],
        "fit_seconds": sum(trial["fit_seconds"] for trial in trials) / len(trials) / FOLDS,
    }


def _run_peer(grid: dict[str, list[Any]]) -> Run:
    command = [sys.executable, "-m", "benchmarks.estimators", json.dumps(grid)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1][:300])
    run: Run = json.loads(done.stdout.splitlines()[-1])
    return run


def search_with_scikit_learn(grid: dict[str, list[Any]]) -> Run:
    """The same search by `GridSearchCV`; imports and reading the data are not counted, starting its workers is."""
    from sklearn.datasets import load_digits
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import GridSearchCV

    from app.tuning.search.datasets import DATASETS

    rows = DATASETS["digits"].train_samples
    features, labels = (part[:rows] for part in load_digits(return_X_y=True))
    search = GridSearchCV(RandomForestClassifier(TREES, random_state=SEED), grid, cv=FOLDS, n_jobs=WORKERS)
    began = time.perf_counter()
    search.fit(features, labels)
    seconds = time.perf_counter() - began
    found = search.cv_results_
    fit_seconds = float(found["mean_fit_time"].mean())
    return {"seconds": seconds, "means": found["mean_test_score"].tolist(), "fit_seconds": fit_seconds}


def _describe(run: Run) -> str:
    return f"{len(run['means']) * FOLDS} fits of {run['fit_seconds']:.2f} s and the refit"


if __name__ == "__main__":
    print(json.dumps(search_with_scikit_learn(json.loads(sys.argv[1]))))
