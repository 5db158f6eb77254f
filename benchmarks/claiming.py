"""Claimants: threads of one process that claim and record fits, renew leases and query, as fast as they can."""

import os
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from sqlalchemy import Engine

from app.tuning.database import connect, reading, writing
from app.tuning.jobs import claims
from benchmarks import fake
from benchmarks.together import meet
from worker import runner


class Rates(NamedTuple):
    """Rates per second of one claimant process: fits claimed and recorded, leases renewed, queries for cancellation."""

    fits: float
    renewals: float
    looks: float


def claim(url: str, threads: int, seconds: float) -> Rates:
    """In a separate process: the rates that its claimants reach, each kind for some seconds."""
    engine = connect(url)
    process = fake.Process()
    fitted = _rate(threads, seconds, lambda name: lambda: runner.run_fits(engine, fake.train, name, name, process, 5))
    claimed: dict[str, claims.Claim] = {}

    def keep(name: str) -> Callable[[], int]:
        mine = runner.Claimant(engine, name, name, process.stopping).claim_next()
        assert mine, "every fit has been claimed: give the claimants more of them"
        claimed[name] = mine
        return lambda: _renew(engine, mine)

    def look(name: str) -> Callable[[], int]:
        return lambda: _look(engine, claimed[name])

    return Rates(fitted, _rate(threads, seconds / 4, keep), _rate(threads, seconds / 4, look))


def _renew(engine: Engine, mine: claims.Claim) -> int:
    with writing(engine) as session:
        claims.renew(session, mine, claims.LEASE_SECONDS)
        claims.job_state_if_held(session, mine)
    return 1


def _look(engine: Engine, mine: claims.Claim) -> int:
    with reading(engine) as session:
        claims.job_state_if_held(session, mine)
    return 1


def _rate(threads: int, seconds: float, prepare: Callable[[str], Callable[[], int]]) -> float:
    """Calls per second of some threads; a call that returns nothing means that no work is left."""
    calls = [prepare(f"bench-{os.getpid()}-{number}") for number in range(threads)]
    ended: list[float] = []
    meet()
    began = time.perf_counter()

    def work(call: Callable[[], int]) -> None:
        while time.perf_counter() < began + seconds and (done := call()):
            ended.extend([time.perf_counter()] * done)

    workers = [threading.Thread(target=work, args=(call,)) for call in calls]
    for one in workers:
        one.start()
    for one in workers:
        one.join()
    return len(ended) / (max(ended) - began) if ended else 0.0
