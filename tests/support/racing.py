"""Processes that race for one fit, round after round."""

import multiprocessing
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from uuid import UUID

from sqlalchemy import Engine, func, select

from app.tuning.database import connect, reading, writing
from app.tuning.jobs import claims, outcomes, store
from app.tuning.jobs.attempts import Finished
from app.tuning.jobs.claims import Claim
from app.tuning.jobs.tables import Attempt
from app.tuning.search.candidates import draw_candidates
from tests.support.ledger import grid, scored

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["__main__", __name__, "alembic.command"])  # once for all processes
LONGEST_ROUND = 60.0


@dataclass(frozen=True)
class Race:
    """Per round the number of processes that claimed and that recorded, and all errors."""

    winners: list[int]
    recorded: list[int]
    attempts: int
    errors: list[str]


Laps = tuple[list[bool], list[bool], list[str]]


def race(engine: Engine, rounds: int, processes: int = 8) -> Race:
    """Let processes race for the only fit of a job, once for each of several jobs; the winner finishes it."""
    spec = grid(1, evaluation={"validation_split": 0.5, "refit": False})
    found = draw_candidates(spec)
    with writing(engine) as session:
        jobs = [store.insert_job(session, spec, found).id for _ in range(rounds)]
    url = engine.url.render_as_string(hide_password=False)
    start = CONTEXT.Barrier(processes)
    with CONTEXT.Pool(processes, _take_part_from_here_on, (start,)) as pool:
        laps = [
            lap.get(LONGEST_ROUND + rounds) for lap in [pool.apply_async(_run, (url, jobs)) for _ in range(processes)]
        ]
    with reading(engine) as session:
        attempts = session.scalar(select(func.count()).select_from(Attempt)) or 0
    won, recorded, errors = zip(*laps, strict=True)
    sums = [[sum(lap) for lap in zip(*flags, strict=True)] for flags in (won, recorded)]
    return Race(sums[0], sums[1], attempts, [error for some in errors for error in some])


_start: Barrier


def _take_part_from_here_on(start: Barrier) -> None:
    global _start
    _start = start


def _run(url: str, jobs: list[UUID]) -> Laps:
    engine = connect(url)
    won, recorded, errors = [], [], []
    for job_id in jobs:
        _start.wait(LONGEST_ROUND)
        claim: Claim | None = None
        finished = False
        try:
            with writing(engine) as session:
                claim = claims.claim(session, job_id, multiprocessing.current_process().name, "m")
            if claim:
                with writing(engine) as session:
                    finished = outcomes.record(session, claim, Finished(scored(0.5)))
        except Exception as error:
            errors.append(repr(error))
        won.append(claim is not None)
        recorded.append(finished)
    engine.dispose()
    return won, recorded, errors
