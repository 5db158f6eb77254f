"""The time to decide a step of a search with 1,000 trials, in the transaction that records the end of a fit."""

import gc
import time
from collections.abc import Iterator
from random import Random
from typing import Any
from unittest.mock import patch

import numpy as np
from sqlalchemy import Engine

from app.tuning.database import writing
from app.tuning.jobs import claims, outcomes, steps, store
from app.tuning.jobs.attempts import Finished, Result
from app.tuning.search.candidates import draw_candidates
from app.tuning.search.spec import JobSpec
from benchmarks import jobs, services
from benchmarks.rows import Row, Size, missing

PART = "strategies.deciding"
GOAL_MS = 20.0
RACE = {"cv": 3, "race": {"method": "lossless"}, "refit": False}


def measure(size: Size) -> Iterator[Row]:
    """Measure halving, and a race of a random search, on each database."""
    trials = size.of(1_000, 100)
    with services.databases() as urls:
        for database in services.DATABASES:
            if database not in urls:
                yield missing(PART, database)
                continue
            for title, spec in _make_specs(trials).items():
                found = 1e3 * _time_steps(jobs.database(urls[database]()), JobSpec.model_validate(spec))
                yield from _rows(f"{title}, {trials} trials, {database}", found)


def _make_specs(trials: int) -> dict[str, dict[str, Any]]:
    plain = jobs.spec(trials)
    space = plain["search"]["param_distributions"]
    halving = {"strategy": "halving_random", "n_candidates": trials, "max_resources": 27, "param_distributions": space}
    return {
        "halving": {**plain, "search": halving, "evaluation": {"cv": 3, "refit": False}},
        "lossless race": {**plain, "evaluation": RACE},
    }


def _rows(title: str, found: np.ndarray) -> Iterator[Row]:
    walls, threads = found.T
    note = (
        f"{len(walls)} ends of fits, p99 {np.percentile(walls, 99):.1f} ms, {(walls > GOAL_MS).sum()} above the aim; "
    )
    note += f"of the process alone p99 {np.percentile(threads, 99):.1f} ms, {(threads > GOAL_MS).sum()} above"
    for what, choose in (("median", np.median), ("worst", np.max)):
        wall, thread = float(choose(walls)), float(choose(threads))
        own = f"{thread:.1f} ms of processor time of the process; {note}"
        goal = (wall / GOAL_MS, f"the aim, {GOAL_MS:.0f} ms")
        yield Row(PART, f"deciding, {what}: {title}", wall, "ms", *goal, own)


def _time_steps(engine: Engine, spec: JobSpec) -> np.ndarray:
    """For each end of a fit the seconds to decide what follows from it: by the clock, and of the processor."""
    seconds: list[tuple[float, float]] = []

    def timed(*arguments: Any) -> None:
        began = time.perf_counter(), time.thread_time()
        steps.advance_search(*arguments)
        seconds.append((time.perf_counter() - began[0], time.thread_time() - began[1]))

    with patch.object(outcomes, "advance_search", timed):
        _train(engine, spec)
    engine.dispose()
    return np.array(seconds)


def _train(engine: Engine, spec: JobSpec) -> None:
    """Record a drawn accuracy for each fit of a new job."""
    gc.freeze()  # as a training process does
    draw = Random(0)
    with writing(engine) as session:
        job_id = store.insert_job(session, spec, draw_candidates(spec)).id
        claim = claims.claim(session, job_id, "bench", "bench")
    while claim:
        result = Result(draw.randint(300, 479) / 479, 0.5, 1.0, 0.1, {"tunewell": "bench"})
        with writing(engine) as session:
            outcomes.record(session, claim, Finished(result))
            claim = claims.claim_following(session, job_id, "bench", "bench")
