"""The same job with one worker and with two."""

from collections.abc import Iterator
from datetime import datetime
from statistics import median
from typing import Any

from benchmarks import article, services
from benchmarks.rows import Row, Size
from tunewell import Client

PART = "throughput.workers"
WARM_UP = 200  # images; enough to have imported and compiled everything


def measure(size: Size) -> Iterator[Row]:
    """Measure from the first claim to the end, in warm workers."""
    article.mnist_file()
    samples, repeats = size.of(article.SAMPLES, 1_000), size.of(3, 1)
    seconds = {workers: _seconds(workers, samples, repeats) for workers in (1, 2)}
    note = f"27 fits of {samples} images and the refit"
    yield Row(PART, "the same job, 1 worker", seconds[1], "s", note=note)
    yield Row(PART, "the same job, 2 workers", seconds[2], "s", seconds[1] / seconds[2], "1 worker (2 is ideal)", note)


def _seconds(workers: int, samples: int, repeats: int) -> float:
    with services.tunewell(workers) as service, Client(service.url) as client:
        for _ in range(2):
            _run(client, WARM_UP)
        return median(_run(client, samples) for _ in range(repeats))


def _run(client: Client, samples: int) -> float:
    grid = {**article.GRID, "learning_rate": [0.01]}
    dataset = {"name": "mnist", "train_samples": samples, "test_samples": samples}
    spec: dict[str, Any] = {**article.SPEC, "dataset": dataset, "search": {"strategy": "grid", "param_grid": grid}}
    job = services.wait(client, client.submit(spec).id)
    began, ended = (datetime.fromisoformat(job[name]) for name in ("started_at", "ended_at"))
    return (ended - began).total_seconds()
