"""What polling costs with 27 and with 10,000 trials, while nothing is trained and while two workers train."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import psutil

from app.client import Client
from app.local import PROJECT
from benchmarks import jobs, services
from benchmarks.rows import Row, Size, missing

PART = "system.polling"
TRIALS = (27, 10_000)
CALLS = {
    "GET job": "",
    "GET best": "/best",
    "GET trials": "/trials",
    "GET trials by accuracy": "/trials?sort=-validation_accuracy",
}
CONNECTIONS = 4
MOST_API_MB, MOST_CHILD_MB = 200, 1000
Found = dict[tuple[str, str, int], dict[str, float]]  # by how, call and trials: requests a second, p50 and p99 in ms


def measure(size: Size) -> Iterator[Row]:
    """On each database: idle on both, and while training where most users are, on SQLite, and on PostgreSQL."""
    with services.databases() as urls, services.broker() as broker:
        for database in services.DATABASES:
            if database not in urls:
                yield missing(PART, database)
                continue
            yield from _on(database, urls[database](), broker, size)


def _on(database: str, url: str, broker: str, size: Size) -> Iterator[Row]:
    engine = jobs.database(url)
    ids = {trials: jobs.half_done(engine, trials) for trials in TRIALS}
    engine.dispose()
    urls = {"TUNEWELL_DATABASE_URL": url, "TUNEWELL_BROKER_URL": broker}
    seconds, rounds = size.of(3, 1), size.of(3, 1)
    with services.home() as place, services.api(place, **urls) as service:
        found = _polled("idle", service.url, ids, seconds, rounds)
        with _training(place, service.url, urls) as workers:
            found |= _polled("training", service.url, ids, seconds, rounds)
            memory = {"API": _megabytes(service.process)}
            memory["training child, all of MNIST"] = max(
                _megabytes(child) for one in workers for child in one.children()
            )
    yield from _rows(database, found)
    for (what, took), most in zip(memory.items(), (MOST_API_MB, MOST_CHILD_MB), strict=True):
        yield Row(PART, f"resident memory, {what}, {database}", took, "MB", took / most, f"the aim, {most} MB")


def _polled(how: str, url: str, ids: dict[int, Any], seconds: int, rounds: int) -> Found:
    """Rounds of every call at both sizes in turns; of the rounds the median."""
    found: dict[tuple[str, str, int], list[tuple[float, float, float]]] = {}
    for _ in range(rounds):
        for call, path in CALLS.items():
            for trials, job_id in ids.items():
                latencies, took = _load(f"{url}/v1/jobs/{job_id}{path}", seconds)
                p50, p99 = 1e3 * np.percentile(latencies, (50, 99))
                found.setdefault((how, call, trials), []).append((len(latencies) / took, float(p50), float(p99)))
    names = ("requests_per_second", "p50_ms", "p99_ms")
    return {key: dict(zip(names, np.median(values, axis=0).tolist(), strict=True)) for key, values in found.items()}


def _load(url: str, seconds: int) -> tuple[list[float], float]:
    command = [
        sys.executable,
        "-m",
        "benchmarks.load",
        url,
        "--connections",
        str(CONNECTIONS),
        "--seconds",
        str(seconds),
    ]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    answer = json.loads(done.stdout)
    return answer["latencies"], answer["seconds"]


@contextmanager
def _training(place: Any, url: str, urls: dict[str, str]) -> Iterator[list[psutil.Process]]:
    """Two workers that train on all of MNIST until the end of the block."""
    grid = {"strategy": "grid", "param_grid": {"learning_rate": [0.001, 0.002]}}
    spec = {
        "dataset": {"name": "mnist"},
        "search": grid,
        "fixed": {"epochs": 500},
        "evaluation": {"validation_split": 0.1},
    }
    with Client(url) as client, services.workers(place, 2, "worker.tasks", **urls) as workers:
        job_id = client.create(json.dumps(spec).encode())["id"]
        deadline = time.monotonic() + 120
        while client.job(job_id)["fits"]["running"] < 2 or not _learning(client, job_id):
            if time.monotonic() > deadline:
                raise TimeoutError("the workers did not begin to train within two minutes")
            time.sleep(0.5)
        try:
            yield workers
        finally:
            client.cancel(job_id)
            services.wait(client, job_id, 60)


def _learning(client: Client, job_id: str) -> bool:
    """Whether an epoch has ended, so that nothing is being imported or compiled any more."""
    fits = client._json(client._send("GET", f"/v1/jobs/{job_id}/trials/0"))["fits"]
    return any(fit["history"] for fit in fits)


def _megabytes(process: psutil.Process) -> float:
    return float(process.memory_info().rss / 1e6)


def _rows(database: str, found: Found) -> Iterator[Row]:
    for (how, call, trials), figures in found.items():
        few = found[how, call, TRIALS[0]]["p50_ms"]
        ratio, to = (figures["p50_ms"] / few, "27 trials") if trials != TRIALS[0] else (None, "")
        if how == "training" and trials == TRIALS[0]:
            ratio, to = few / found["idle", call, trials]["p50_ms"], "idle"
        title = f"{call}, {trials:,} trials, {how}, {database}"
        note = f"p99 {figures['p99_ms']:.1f} ms, {figures['requests_per_second']:.0f} requests a second"
        yield Row(PART, title, figures["p50_ms"], "ms", ratio, to, note, details=figures)
