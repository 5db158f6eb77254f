"""How many workers one database feeds: fits claimed and recorded, and signs of life, from many claimants at once."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from sqlalchemy import Engine, func, select

from app.tuning import claims
from app.tuning.database import connect, reading, writing
from app.tuning.tables import Attempt, Outcome
from benchmarks import fake, jobs, services
from benchmarks.rows import Row, Size, missing
from benchmarks.together import meet, together
from worker import fits
from worker.fits import RENEW_SECONDS, Keeper

PART = "throughput.claims"
FIT_SECONDS = 60.0
REPORT_SECONDS = 0.6  # between two looks at whether the fit is still wanted
PROCESSES = 4  # that the claimants are threads of
CLAIMANTS = {"SQLite": (2, 8), "PostgreSQL": (8, 64)}
JOBS = (1, 8)


class Rates(NamedTuple):
    """Of one claimant process, each a second: fits claimed and recorded, leases renewed, looks."""

    fits: float
    renewals: float
    looks: float


def measure(size: Size) -> Iterator[Row]:
    """On each database, over one job and over eight."""
    with services.databases() as urls:
        for database in services.DATABASES:
            if database not in urls:
                yield missing(PART, database)
                continue
            for claimants in CLAIMANTS[database]:
                for count in JOBS:
                    yield _row(database, urls[database](), claimants, count, size)


def _row(database: str, url: str, claimants: int, count: int, size: Size) -> Row:
    engine = jobs.database(url)
    for _ in range(count):
        jobs.create(engine, size.of(4_000, 1_000) // count)
    processes = min(PROCESSES, claimants)
    found = together(processes, claim, url, claimants // processes, float(size.of(10, 2)))
    rates = Rates(*(sum(column) for column in zip(*found, strict=True)))
    _check(engine)
    engine.dispose()
    cost = 1 / (FIT_SECONDS * rates.fits) + 1 / (RENEW_SECONDS * rates.renewals) + 1 / (REPORT_SECONDS * rates.looks)
    title = f"fits claimed and recorded, {database}, {claimants} claimants, {count} job{'s' * (count > 1)}"
    alone = f"{rates.renewals:,.0f} renewals or {rates.looks:,.0f} looks a second"
    note = (
        f"feeds {rates.fits * FIT_SECONDS:,.0f} workers by claims alone, {1 / cost:,.0f} with their reports ({alone})"
    )
    return Row(
        PART, title, rates.fits, "/s", 1 / cost, "one worker with one-minute fits", note, details=rates._asdict()
    )


def claim(url: str, threads: int, seconds: float) -> Rates:
    """In a process of its own: what its claimants get done in so many seconds of each kind."""
    engine = connect(url)
    process = fake.Process()
    fitted = _rate(threads, seconds, lambda name: lambda: fits.run_next(engine, fake.train, name, name, process))
    claimed: dict[str, claims.Claim] = {}

    def keep(name: str) -> Callable[[], object]:
        mine = fits.claim_next(engine, name, name)
        assert mine, "every fit has been claimed: give the claimants more of them"
        claimed[name] = mine
        return lambda: _renew(engine, mine)

    def look(name: str) -> Callable[[], object]:
        keeper = Keeper(engine, claimed[name], process)
        return keeper.report

    return Rates(fitted, _rate(threads, seconds / 4, keep), _rate(threads, seconds / 4, look))


def _renew(engine: Engine, mine: claims.Claim) -> None:
    with writing(engine) as session:
        claims.renew(session, mine, claims.LEASE_SECONDS)
        claims.standing(session, mine)


def _rate(threads: int, seconds: float, prepare: Callable[[str], Callable[[], object]]) -> float:
    """Calls a second by so many threads; a call that answers False has found nothing left to do."""
    calls = [prepare(f"bench-{os.getpid()}-{number}") for number in range(threads)]
    ended: list[float] = []
    meet()
    began = time.perf_counter()

    def work(call: Callable[[], object]) -> None:
        while time.perf_counter() < began + seconds and call() is not False:
            ended.append(time.perf_counter())

    workers = [threading.Thread(target=work, args=(call,)) for call in calls]
    for one in workers:
        one.start()
    for one in workers:
        one.join()
    return len(ended) / (max(ended) - began) if ended else 0.0


def _check(engine: Engine) -> None:
    """No fit has been recorded twice.

    Raises:
        AssertionError: one has.
    """
    twice = select(Attempt.fit_id).where(Attempt.outcome == Outcome.SUCCEEDED).group_by(Attempt.fit_id)
    with reading(engine) as session:
        assert not session.execute(twice.having(func.count() > 1)).all()
