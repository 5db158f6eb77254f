"""The time between the end of a fit and the start of the next in a busy worker with empty training."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from sqlalchemy import Engine, select

from app.tuning.database import reading
from app.tuning.jobs.tables import Fit
from benchmarks import jobs, services
from benchmarks.rows import Row, Size, missing
from tunewell import Client

PART = "system.gaps"
GOAL_MS = 15.0


def measure(size: Size) -> Iterator[Row]:
    """Measure with one worker and with two, on each database."""
    with services.databases() as urls, services.broker() as broker:
        for database in services.DATABASES:
            if database not in urls:
                yield missing(PART, database)
                continue
            for workers in (1, 2):
                idle, stored = _gaps(urls[database](), broker, workers, size.of(200, 40))
                title = f"between two fits, {database}, {workers} worker{'s' * (workers > 1)}"
                p50, p95 = np.percentile(idle, (50, 95))
                rows = f"by the rows' times {np.median(stored):.1f} and {np.percentile(stored, 95):.1f} ms"
                note = f"p95 {p95:.1f} ms, from training's return to its next call; {rows}; {len(idle)} gaps"
                yield Row(PART, title, float(p50), "ms", float(p50 / GOAL_MS), f"the aim, {GOAL_MS:.0f} ms", note)


def _gaps(url: str, broker: str, workers: int, trials: int) -> tuple[np.ndarray, np.ndarray]:
    """Milliseconds between the fits of each worker: by its own clock, and by `ended_at` and `started_at`."""
    urls = {"TUNEWELL_DATABASE_URL": url, "TUNEWELL_BROKER_URL": broker}
    with services.home() as place, services.api(place, **urls) as service, Client(service.url) as client:
        with services.workers(place, workers, "benchmarks.worker", **urls) as running:
            job_id = client.submit(jobs.spec(trials)).id
            services.wait(client, job_id, 600, running)
        return _between_fits(jobs.database(url))


def _between_fits(engine: Engine) -> tuple[np.ndarray, np.ndarray]:
    columns = (Fit.worker, Fit.started_at, Fit.ended_at, Fit.fit_seconds)
    query = select(*columns).where(Fit.ended_at.is_not(None)).order_by(Fit.started_at)
    with reading(engine) as session:
        rows = session.execute(query).all()
    engine.dispose()
    idle, stored = [], []
    for worker in {row.worker for row in rows}:
        mine = [row for row in rows if row.worker == worker]
        idle += [row.fit_seconds for row in mine[1:]]
        stored += [(later.started_at - one.ended_at).total_seconds() for one, later in pairwise(mine)]
    return 1e3 * np.array(idle), 1e3 * np.array(stored)
