"""Wall time until a search knows a candidate as good as the grid's best, on two workers: the example at nine epochs."""

import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from queue import Empty, Queue
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any

from benchmarks import article, services
from benchmarks.live_peers import EPOCHS, FACTOR
from benchmarks.rows import Row, Size
from tunewell import Client, calls
from tunewell.service import ENDED_STATES

PART = "strategies.live"
WORKERS = 2
BEST = 0.9547  # the grid's, after nine epochs of Tunewell's own training
TARGET = BEST - 0.001
LONGEST = 360.0
SEEDS = (42, 43, 44)
PEERS = {
    "Optuna's TPE with HyperbandPruner, two processes": ("optuna", ("keras", "optuna"), 2),
    "KerasTuner's Hyperband, one process": ("keras-tuner", ("keras", "keras_tuner"), 1),
}
Seen = dict[str, Any]  # a mean over the folds, when it was known, and after how many epochs


def measure(size: Size) -> Iterator[Row]:
    """Measure one after the other, each stopped at the target or after six minutes; with `quick` after one."""
    article.mnist_file()
    longest = float(size.of(int(LONGEST), 60))
    for seed in SEEDS[: size.of(len(SEEDS), 1)]:
        yield _row(f"Tunewell's halving, two workers, seed {seed}", run_tunewell(seed, longest), longest)
        for title, (name, needs, processes) in PEERS.items():
            if absent := [package for package in needs if not importlib.util.find_spec(package)]:
                yield Row(PART, title, note=f"not installed: {', '.join(absent)}")
            else:
                yield _row(f"{title}, seed {seed}", run_peer(name, processes, seed, longest), longest)


def run_tunewell(seed: int, longest: float) -> list[Seen]:
    """The means of a halving search over the grid, from the service's start on, until one is good enough."""
    search = {"strategy": "halving_grid", "param_grid": article.GRID, "max_resources": EPOCHS, "factor": FACTOR}
    fixed = {**article.SPEC["fixed"], "epochs": EPOCHS}
    evaluation = {**article.SPEC["evaluation"], "refit": False}
    spec = {**article.SPEC, "search": search, "fixed": fixed, "evaluation": evaluation, "random_state": seed}
    seen: dict[tuple[int, int], Seen] = {}
    began = time.perf_counter()
    with services.tunewell(WORKERS) as service, Client(service.url) as client:
        job_id = client.submit(spec).id
        while not _is_over(list(seen.values()), began, longest):
            state = client.fetch(calls.show_job(job_id))["state"]
            now = time.perf_counter() - began
            for trial in client.gather(calls.list_trials(job_id))["items"]:
                if trial["validation_accuracy"] is not None:
                    epochs = trial["n_resources"]
                    one = {"mean": trial["validation_accuracy"], "epochs": epochs, "params": trial["params"]}
                    seen.setdefault((trial["number"], epochs), {**one, "seconds": now})
            if state in ENDED_STATES:
                break
            time.sleep(services.POLL_SECONDS)
    return list(seen.values())


def run_peer(name: str, processes: int, seed: int, longest: float) -> list[Seen]:
    """What a peer's processes print, from their start on, until a mean is good enough; then they are stopped."""
    lines: Queue[Seen] = Queue()
    seen: list[Seen] = []
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        began = time.perf_counter()
        command = [sys.executable, "-m", "benchmarks.live_peers", name, "--folder", folder]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
        started = [
            subprocess.Popen([*command, "--seed", str(seed * processes + place)], cwd=article.PROJECT, **pipes)
            for place in range(processes)
        ]
        for one in started:
            Thread(target=_read, args=(one, lines, began), daemon=True).start()
        try:
            while not _is_over(seen, began, longest) and any(one.poll() is None for one in started):
                try:
                    seen.append(lines.get(timeout=0.5))
                except Empty:
                    continue
        finally:
            for one in started:
                one.kill()
                one.wait()
    return seen


def _read(process: Any, lines: "Queue[Seen]", began: float) -> None:
    for line in process.stdout:
        if line.startswith("{"):
            lines.put({**json.loads(line), "seconds": time.perf_counter() - began})


def _is_over(seen: list[Seen], began: float, longest: float) -> bool:
    return time.perf_counter() - began > longest or any(one["mean"] >= TARGET for one in seen)


def _row(title: str, seen: list[Seen], longest: float) -> Row:
    if not seen:
        raise RuntimeError(f"{title}: no candidate came to an end")
    best = max(seen, key=lambda one: one["mean"])
    reached = best["mean"] >= TARGET
    how = ", ".join(f"{name} {value:g}" for name, value in sorted(best["params"].items()))
    note = f"mean accuracy {best['mean']:.4f} after {best['epochs']} epochs ({how}), {len(seen)} means in all"
    if not reached:
        ended = seen[-1]["seconds"]
        note = f"not reached, stopped at {longest:.0f} s or at its end; {note}, the last after {ended:.0f} s"
    figure = f"until a mean accuracy of {TARGET:.4f}: {title}"
    return Row(PART, figure, best["seconds"] if reached else None, "s", note=note, details=seen)
