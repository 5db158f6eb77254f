"""The time of polling with 27 and with 10,000 trials, while nothing is trained and while two workers train."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import numpy as np
import psutil

from app.local.launcher import PROJECT
from benchmarks import jobs, services
from benchmarks.rows import Row, Size, missing
from tunewell import Client, calls

PART = "system.polling"
TRIALS = (27, 10_000)
CALLS = {
    "job": "",
    "best": "/best",
    "trials": "/trials?page_size=10",
    "trials by accuracy": "/trials?page_size=10&sort=-validation_accuracy",
}
CONNECTIONS = 4
PATIENCE = 300.0
MOST_API_MB, MOST_CHILD_MB = 200, 1000
NAMES = ("requests_per_second", "p50_ms", "p99_ms", "cpu_ms")
Found = dict[tuple[str, int], dict[str, float]]  # by call and trials: what `NAMES` says


def measure(size: Size) -> Iterator[Row]:
    """Measure on each database, first idle and then while two workers train."""
    with services.databases() as urls, services.broker() as broker:
        for database in services.DATABASES:
            if database not in urls:
                yield missing(PART, database)
                continue
            yield from _on(database, urls[database](), broker, size)


def _on(database: str, url: str, broker: str, size: Size) -> Iterator[Row]:
    engine = jobs.database(url)
    ids = {trials: jobs.part_done(engine, trials, trials // 2) for trials in TRIALS}
    engine.dispose()
    urls = {"TUNEWELL_DATABASE_URL": url, "TUNEWELL_BROKER_URL": broker}
    seconds, rounds = size.of(3, 1), size.of(3, 1)
    with services.home() as place, services.api(place, **urls) as service:
        yield from _rows(f"idle, {database}", _polled(service, ids, seconds, rounds))
        with _training(place, service.url, urls) as workers:
            yield from _rows(f"training, {database}", _polled(service, ids, seconds, rounds))
            yield from _memory(database, service.process, [child for one in workers for child in one.children()])


def _polled(service: services.Service, ids: dict[int, UUID], seconds: int, rounds: int) -> Found:
    """The median over rounds of every call, alternating between both sizes."""
    found: dict[tuple[str, int], list[tuple[float, ...]]] = {}
    for _ in range(rounds):
        for call, path in CALLS.items():
            for trials, job_id in ids.items():
                before = sum(service.process.cpu_times()[:2])
                latencies, took = _load(f"{service.url}/v1/jobs/{job_id}{path}", seconds)
                worked = 1e3 * (sum(service.process.cpu_times()[:2]) - before) / len(latencies)
                p50, p99 = 1e3 * np.percentile(latencies, (50, 99))
                figures = (len(latencies) / took, float(p50), float(p99), worked)
                found.setdefault((call, trials), []).append(figures)
    return {key: dict(zip(NAMES, np.median(values, axis=0).tolist(), strict=True)) for key, values in found.items()}


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
    response = json.loads(done.stdout)
    return response["latencies"], response["seconds"]


@contextmanager
def _training(place: Path, url: str, urls: dict[str, str]) -> Iterator[list[psutil.Process]]:
    """Two workers that train on all of MNIST until the end of the block."""
    grid = {"strategy": "grid", "param_grid": {"learning_rate": [0.001, 0.002]}}
    spec = {
        "dataset": {"name": "mnist"},
        "search": grid,
        "fixed": {"epochs": 500},
        "evaluation": {"validation_split": 0.1},
    }
    with Client(url) as client, services.workers(place, 2, "worker.tasks", **urls) as workers:
        job_id = client.submit(spec).id
        deadline = time.monotonic() + PATIENCE
        while client.fetch(calls.show_job(job_id))["fits"]["running"] < 2 or not _learning(client, job_id):
            if time.monotonic() > deadline:
                raise TimeoutError(f"the workers did not train an epoch within {PATIENCE:.0f} s")
            time.sleep(0.5)
        try:
            yield workers
        finally:
            client.fetch(calls.control_job(job_id, "cancel"))
            services.wait(client, job_id, 60)


def _learning(client: Client, job_id: str) -> bool:
    """Whether an epoch has ended, so that nothing is being imported or compiled any more."""
    fits = client.fetch(calls.show_trial(job_id, 0))["fits"]
    return any(fit["history"] for fit in fits)


def _memory(database: str, api: psutil.Process, children: list[psutil.Process]) -> Iterator[Row]:
    found = {"API": [api], "training child, all of MNIST": children}
    for (what, processes), most in zip(found.items(), (MOST_API_MB, MOST_CHILD_MB), strict=True):
        took = max(one.memory_info().rss for one in processes) / 1e6
        yield Row(PART, f"resident memory, {what}, {database}", took, "MB", took / most, f"the aim, {most} MB")


def _rows(how: str, found: Found) -> Iterator[Row]:
    for call in CALLS:
        few, many = (found[call, trials] for trials in TRIALS)
        title = f"p50 of {call}, 10,000 trials, {how}"
        note = f"{_describe(many)}; with 27 trials {few['p50_ms']:.1f} ms, {_describe(few)}"
        ratio = many["p50_ms"] / few["p50_ms"]
        yield Row(PART, title, many["p50_ms"], "ms", ratio, "27 trials", note, details={"27": few, "10000": many})


def _describe(one: dict[str, float]) -> str:
    return f"p99 {one['p99_ms']:.1f} ms, {one['requests_per_second']:.0f}/s, {one['cpu_ms']:.1f} ms of CPU each"
