"""The time until a POST is accepted, by the number of its trials."""

import json
from collections.abc import Iterator
from statistics import median

import httpx2

from benchmarks import jobs, services
from benchmarks.rows import Row, Size, missing

PART = "system.accepting"
GOAL_SECONDS = 2.0


def measure(size: Size) -> Iterator[Row]:
    """Measure POSTs of all sizes in turns; the jobs stay stored, as in real use."""
    with services.databases() as urls, services.broker() as broker, services.home() as place:
        for database in services.DATABASES:
            if database not in urls:
                yield missing(PART, database)
                continue
            settings = {"TUNEWELL_DATABASE_URL": urls[database](), "TUNEWELL_BROKER_URL": broker}
            with services.api(place, **settings) as service:
                found = _accept(service.url, size.of(5, 2))
            for trials, took in found.items():
                whole = trials == max(found)
                ratio = took / GOAL_SECONDS if whole else took / found[max(found)]
                to = f"the aim, {GOAL_SECONDS:.0f} s" if whole else "10,000 trials"
                yield Row(PART, f"POST of {trials:,} trials, {database}", took, "s", ratio, to)


def _accept(url: str, repeats: int) -> dict[int, float]:
    seconds: dict[int, list[float]] = {trials: [] for trials in (27, 1_000, 10_000)}
    with httpx2.Client(base_url=url, timeout=120, trust_env=False) as client:
        _post(client, 27)
        for _ in range(repeats):
            for trials, took in seconds.items():
                took.append(_post(client, trials))
    return {trials: median(took) for trials, took in seconds.items()}


def _post(client: httpx2.Client, trials: int) -> float:
    response = client.post(
        "/v1/jobs", content=json.dumps(jobs.spec(trials)), headers={"Content-Type": "application/json"}
    )
    response.raise_for_status()
    return response.elapsed.total_seconds()
