"""The example grid: Tunewell compared with what one would use instead."""

import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from benchmarks import article, services
from benchmarks.peers import PEERS
from benchmarks.rows import Row, Size
from tunewell import Client

PART = "search"
WORKERS = 2
LONGEST_PEER = 3600.0
ALL_FITS = len(article.candidates(article.GRID)) * article.FOLDS
Run = dict[str, Any]
LEARNT = 0.5  # mean accuracy from which on a candidate is one that learns; the grid's larger steps fail by chance


def measure(size: Size) -> Iterator[Row]:
    """Measure one after the other, each alone on the machine."""
    article.mnist_file()
    ours: list[Run] = []
    yield from _guarded("Tunewell", partial(_tunewell, ours))
    for name, peer in PEERS.items():
        if absent := [package for package in peer.needs if not importlib.util.find_spec(package)]:
            yield Row(PART, peer.title, note=f"not installed: {', '.join(absent)}")
        else:
            yield from _guarded(peer.title, partial(_peer, name, peer.title, ours, size))


def _tunewell(ours: list[Run]) -> Iterator[Row]:
    with services.tunewell(WORKERS) as service, Client(service.url) as client:
        yield Row(PART, "Tunewell: `tunewell up` until it is ready", service.ready_seconds, "s")
        for title in ("Tunewell, two fresh workers", "Tunewell, the same job again in warm workers"):
            run = _posted(client)
            ours.append(run)
            yield _row(title, run["wall"], ours, _describe(run), run)


def _row(title: str, wall: float, ours: list[Run], note: str, run: Run) -> Row:
    ratio = wall / ours[0]["wall"] if ours else None
    return Row(PART, title, wall, "s", ratio, "Tunewell, fresh" if ours else "", note, details=run)


def _posted(client: Client) -> Run:
    began = time.perf_counter()
    posted = client.submit(article.SPEC).wait(progress=False)
    job = posted.document
    wall = time.perf_counter() - began
    if job["state"] != "succeeded":
        raise RuntimeError(f"Tunewell's job {job['state']}: {job['error']}")
    best = posted.best()
    trials = posted.trials()
    means = {article.key(trial["params"]): trial["validation_accuracy"] for trial in trials}
    fit_seconds = sum(trial["fit_seconds"] for trial in trials)
    test = best["test"]["accuracy"]
    return {"wall": wall, "best": best["params"], "means": means, "test_accuracy": test, "fit_seconds": fit_seconds}


def _peer(name: str, title: str, ours: list[Run], size: Size) -> Iterator[Row]:
    grid = article.QUICK_GRID if size.quick else article.GRID
    command = [sys.executable, "-m", "benchmarks.peers", name, "--grid", json.dumps(grid)]
    began = time.perf_counter()
    done = subprocess.run(
        command, cwd=article.PROJECT, capture_output=True, text=True, timeout=LONGEST_PEER, check=False
    )
    wall = time.perf_counter() - began
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1][:300])
    run: Run = json.loads(done.stdout.splitlines()[-1])
    note = _describe(run)
    fits, twice = run["fits"], run["fits"] - len(run["means"]) * article.FOLDS
    if size.quick:
        wall += run["seconds"]["search"] * (ALL_FITS / fits - 1)
        note = f"scaled from {fits} of {ALL_FITS} fits; {note}"
    if twice:
        note += f"; {twice} of its {fits} fits were done twice"
    yield _row(title, wall, ours, note, run)
    if name == "loop" and ours:
        yield from _agreement(ours[0]["means"], run["means"])


def _agreement(ours: dict[str, float], theirs: dict[str, float]) -> Iterator[Row]:
    """Differences of the candidates' mean accuracies; a candidate is compared where both have it."""
    pairs = np.array([(ours[key], theirs[key]) for key in theirs])
    learnt = pairs[(pairs > LEARNT).all(axis=1)]
    for title, some in ((f"all {len(pairs)} candidates", pairs), (f"the {len(learnt)} that learnt", learnt)):
        if len(some) < 2:
            continue
        apart = some[:, 0] - some[:, 1]
        noise = apart.std(ddof=1)
        means = " and ".join(f"{mean:.4f}" for mean in some.mean(axis=0))
        note = f"deviation {noise:.4f}, standard error {noise / np.sqrt(len(apart)):.4f}; means {means}"
        yield Row(PART, f"mean accuracy, Tunewell less the loop: {title}", float(apart.mean()), note=note)


def _describe(run: Run) -> str:
    best = ", ".join(f"{name} {value:g}" for name, value in sorted(run["best"].items()))
    mean = run["means"][article.key(run["best"])]
    return f"best: {best}; accuracy {mean:.4f} over the folds, {run['test_accuracy']:.4f} on the test set"


def _guarded(title: str, measure: Callable[[], Iterator[Row]]) -> Iterator[Row]:
    """Measure a peer; its failure is a row, and the others are still measured."""
    try:
        yield from measure()
    except Exception as error:
        yield Row(PART, title, note=f"failed: {type(error).__name__}: {error}", failed=True)
