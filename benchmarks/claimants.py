"""How many workers one database serves: claims, records and renewals of many claimants at once."""

from collections.abc import Iterator

from sqlalchemy import Engine, func, select

from app.tuning.database import reading
from app.tuning.jobs.tables import Attempt, Outcome
from benchmarks import jobs, services
from benchmarks.claiming import Rates, claim
from benchmarks.rows import Row, Size, missing
from benchmarks.together import together
from worker.lease import RENEW_SECONDS

PART = "throughput.claims"
FIT_SECONDS = 60.0
REPORT_SECONDS = 0.6  # between two looks at whether the fit is still wanted
PROCESSES = 4  # that the claimants are threads of
CLAIMANTS = {"SQLite": (2, 8), "PostgreSQL": (8, 64)}
JOBS = (1, 8)


def measure(size: Size) -> Iterator[Row]:
    """Measure on each database, over one job and over eight."""
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


def _check(engine: Engine) -> None:
    """Check that no fit has been recorded twice.

    Raises:
        AssertionError: one has.
    """
    twice = select(Attempt.fit_id).where(Attempt.outcome == Outcome.SUCCEEDED).group_by(Attempt.fit_id)
    with reading(engine) as session:
        assert not session.execute(twice.having(func.count() > 1)).all()
