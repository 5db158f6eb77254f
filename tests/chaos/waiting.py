"""A locked database, a read-only one, an unreadable job, and leases across a jump of the clock."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import select, update

from app.tuning.database import writing
from app.tuning.jobs.tables import Fit, Job, Outcome
from tests.chaos.clients import Client
from tests.chaos.ground import Ground
from tests.chaos.proof import check, clean, tries
from tests.chaos.report import Row
from tests.chaos.site import Site, spec, until

HELD_SECONDS = 55.0
HOLDS = {"a reader": ("BEGIN", "SELECT count(*) FROM fits"), "a writer": ("BEGIN IMMEDIATE",)}
READ_ONLY_SECONDS = 29.0
MOST_LINES = 20  # of log by a process, for an outage
LEAP = timedelta(seconds=60)
LEAP_EVERY = 8.0


def hold(ground: Ground, row: Row, seconds: float = HELD_SECONDS, trials: int = 3) -> None:
    """Another process holds SQLite's read lock for a long time, and then its write lock for as long."""
    search = spec(trials, ms=6000)
    with ground.site("sqlite", workers=2) as site:
        expected = clean(site, search)
        for statements in HOLDS.values():
            job = site.post(search)
            until(lambda job=job: site.job(job)["state"] == "running", 60)  # type: ignore[misc]
            with _held(site, statements):
                time.sleep(seconds)
            check(site, row, job, expected)
            _promise_first_attempts(site, row, job)
            row.count += 1


@contextmanager
def _held(site: Site, statements: tuple[str, ...]) -> Iterator[None]:
    assert site.engine.url.database
    other = sqlite3.connect(site.engine.url.database, isolation_level=None, timeout=60)
    try:
        for statement in statements:
            other.execute(statement).fetchall()
        yield
    finally:
        other.close()


def leap(ground: Ground, row: Row, trials: int = 4) -> None:
    """Leases become a minute older repeatedly, as if all machines had slept while the database's clock went on."""
    search = spec(trials, ms=12_000)
    with ground.site("sqlite", workers=2) as site:
        expected = clean(site, search)
        job = site.post(search)
        while not site.ended(job):
            time.sleep(LEAP_EVERY)
            row.count += _age_leases(site)
        check(site, row, job, expected)
        _promise_first_attempts(site, row, job)


def _age_leases(site: Site) -> int:
    with writing(site.engine) as session:
        leases = session.execute(select(Fit.id, Fit.lease_until).where(Fit.lease_until.is_not(None))).all()
        for fit, until_then in leases:
            assert until_then
            session.execute(update(Fit).where(Fit.id == fit).values(lease_until=until_then - LEAP))
    return len(leases)


def turn_read_only(ground: Ground, row: Row, seconds: float = READ_ONLY_SECONDS) -> None:
    """PostgreSQL is read-only for a while, as in a failover, while fits end and jobs are posted."""
    search = spec(8, ms=3000)
    with ground.site("postgresql", workers=3) as site:
        expected = clean(site, search)
        job = site.post(search)
        until(lambda: site.job(job)["state"] == "running", 60)
        before = _lines(site)
        with Client(site) as client:
            try:
                _set_read_only(ground, "on")
                until(lambda: not site.ready(), 30, "readyz tells that the database cannot be written")
                time.sleep(seconds)
                row.promise(not site.ready(), "readyz says that the service is well")
                lines = {name: count - before[name] for name, count in _lines(site).items()}
            finally:
                _set_read_only(ground, "off")
            until(site.ready, 60, "readyz tells that it can")
        client.check(row)
        check(site, row, job, expected)
        _promise_first_attempts(site, row, job)
        row.count = client.responses[503]
        row.notes.append(f"lines of log meanwhile: {lines}")
        row.promise(max(lines.values()) <= MOST_LINES, f"lines of log by each process: {lines}")
        row.promise(row.count > 0, "no request was rejected while the database was read-only")


def _set_read_only(ground: Ground, how: str) -> None:
    ground.postgres.execute(f"ALTER SYSTEM SET default_transaction_read_only = {how}")
    ground.postgres.execute("SELECT pg_reload_conf()")


def _lines(site: Site) -> dict[str, int]:
    return {name: part.log.read_text(errors="replace").count("\n") for name, part in site.parts.items()}


def leave_unreadable(ground: Ground, row: Row) -> None:
    """A job that this version cannot read says so; all others go on."""
    search = spec(4, ms=1500)
    newer = {"strategy": "evolution", "param_grid": {"num_neurons": [1]}}
    with ground.site("sqlite", workers=2) as site:
        expected = clean(site, search)
        lenient, unreadable, healthy = (site.post(search) for _ in range(3))
        until(lambda: site.job(unreadable)["state"] == "running", 60)
        limits = site.job(lenient)["spec"]["limits"] | {"priority": 1}
        _restore(site, lenient, {"limits": limits})
        before = site.job(unreadable)["spec"]["search"]
        _restore(site, unreadable, {"search": newer})
        for job in (lenient, healthy):
            check(site, row, job, expected)
        shown = site.job(unreadable)
        row.promise((shown["error"] or {}).get("type") == "UnreadableSpec", f"its error is {shown['error']}")
        row.promise(site.http.get("/v1/jobs").status_code == 200, "jobs cannot be listed")
        row.promise(site.ready(), "the service says that it is not ready")
        _restore(site, unreadable, {"search": before})
        check(site, row, unreadable, expected)
        for job in (lenient, unreadable, healthy):
            _promise_first_attempts(site, row, job)
        row.count = 2


def _restore(site: Site, job: str, parts: dict[str, Any]) -> None:
    """Change parts of a job's stored spec."""
    with writing(site.engine) as session:
        stored = session.get_one(Job, UUID(job))
        stored.spec = {**stored.spec, **parts}


def _promise_first_attempts(site: Site, row: Row, job: str) -> None:
    more = [one for one in tries(site, job) if one.outcome != Outcome.SUCCEEDED]
    row.promise(not more, f"attempts that did not succeed: {[(one.attempt, one.outcome, one.error) for one in more]}")
