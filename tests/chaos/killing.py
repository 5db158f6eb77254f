"""Workers killed, frozen and stopped, with all their children."""

import os
import random
import signal
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from statistics import median
from typing import Any

from sqlalchemy import select

from app.tuning.database import reading
from app.tuning.jobs.outcomes import MAX_LOST_ATTEMPTS
from app.tuning.jobs.tables import Fit, Outcome, State
from tests.chaos.ground import Ground
from tests.chaos.proof import Try, check, clean, tries
from tests.chaos.report import Row
from tests.chaos.site import Site, moment, spec, until

MOST_SECONDS, MEDIAN_SECONDS = 30.0, 20.0  # until a killed worker's fit is claimed again
Kill = tuple[str, datetime]


def kill_workers(
    ground: Ground, row: Row, kind: str, kills: int, workers: int = 4, pause: float = 4.0, trials: int = 30
) -> None:
    """Kill -9 of a worker and all its children at random moments, `kills` times."""
    search = spec(trials, ms=2500)
    with ground.site(kind, workers) as site:
        expected = clean(site, search)
        killed: list[Kill] = []
        jobs = []
        while len(killed) < kills:
            jobs.append(site.post(search))
            while len(killed) < kills and not site.ended(jobs[-1]):
                moment(pause)
                killed += kill_one(site)
        for job in jobs:
            check(site, row, job, expected)
        row.count += len(killed)
        row.reclaims += reclaims(row, [one for job in jobs for one in tries(site, job)], killed)
        row.rejected += count_late_rejections(site)
        row.notes.append(f"{len(jobs)} jobs of {3 * trials + 1} fits on {kind}")
    row.promise_within(MOST_SECONDS, max(row.reclaims, default=0.0), "claimed again")
    row.promise_within(MEDIAN_SECONDS, median(row.reclaims or [0.0]), "half are claimed again")


def kill_one(site: Site) -> list[Kill]:
    """Kill a random worker, except one whose fit has two lost attempts: a third would fail it, as designed."""
    if site.listening() <= len(site.workers) / 2:  # where nobody is left to claim, killing proves nothing
        return []
    name = random.choice(site.workers)
    last = select(Fit.id).where(
        Fit.worker.startswith(f"{name}#"),
        Fit.state == State.RUNNING,
        Fit.lost_attempts == MAX_LOST_ATTEMPTS - 1,
    )
    with reading(site.engine) as session:
        if session.scalar(last.limit(1)):
            return []
    moment = datetime.now(UTC)
    site.parts[name].kill()
    return [(name, moment)]


def reclaims(row: Row, attempts: list[Try], killed: list[Kill]) -> list[float]:
    """Seconds from a kill to the next claim of the fit that the worker held."""
    seconds = []
    for one in attempts:
        if one.outcome == Outcome.LOST and one.ended and one.next_started:
            kills = [moment for name, moment in killed if name == one.worker and one.started <= moment <= one.ended]
            if kills:
                seconds.append((one.next_started - kills[0]).total_seconds())
            else:
                row.notes.append(f"attempt {one.attempt} at fit {one.fit_id} was lost without a kill")
    return seconds


def count_late_rejections(site: Site) -> int:
    """How often a worker learned that its fit was no longer its own, with a result or before it had one."""
    return site.said("late result rejected") + site.said("fit given up: it is no longer this attempt's")


def freeze_workers(
    ground: Ground,
    row: Row,
    rounds: int = 2,
    longest: float = 50.0,
    searches: Sequence[dict[str, Any]] = (spec(12, ms=3000),),
) -> None:
    """SIGSTOP of workers beyond their lease, then SIGCONT; the last time beyond the watchdog's limit too."""
    with ground.site("postgresql", workers=3) as site:
        expected = [clean(site, search) for search in searches]
        for seconds in (*[20.0] * rounds, *[longest] * (longest > 0)):
            jobs = [site.post(search) for search in searches]
            frozen = _freeze_two(site)
            time.sleep(seconds)
            for name in frozen:
                site.parts[name].thaw()
            for job, table in zip(jobs, expected, strict=True):
                check(site, row, job, table)
            row.count += len(frozen)
            lost = (Outcome.LOST, Outcome.HUNG)
            again = [one for job in jobs for one in tries(site, job) if one.outcome in lost]
            row.promise(len(again) >= len(frozen), f"{len(again)} attempts were given up after {len(frozen)} freezes")
        row.rejected = count_late_rejections(site)
    row.promise(row.rejected >= 2 * rounds, f"{row.rejected} of {2 * rounds} late writes were rejected")


def _freeze_two(site: Site) -> list[str]:
    frozen: list[str] = []
    while len(frozen) < 2:
        name = next(one for one in site.workers if one not in frozen)
        until(partial(_holds, site, name), 30, f"{name} holds a fit")
        site.parts[name].freeze()
        if _holds(site, name):
            frozen.append(name)
        else:  # it had just ended
            site.parts[name].thaw()
    return frozen


def _holds(site: Site, worker: str) -> bool:
    with reading(site.engine) as session:
        mine = select(Fit.id).where(Fit.worker.startswith(f"{worker}#"), Fit.state == State.RUNNING)
        return session.scalar(mine.limit(1)) is not None


def come_late(ground: Ground, row: Row) -> None:
    """Training that renews nothing for longer than its lease and then returns a result."""
    search = spec(1, ms=200, folds=2, act="be-silent")
    with ground.site("sqlite", workers=2) as site:
        expected = clean(site, search)
        job = site.post(search)
        check(site, row, job, expected)
        until(lambda: count_late_rejections(site) == 1, 30, "the late result is rejected")
        check(site, row, job, expected)
        row.count, row.rejected = 1, site.said("late result rejected")
        first, second = [one for one in tries(site, job) if one.fit_id == site.acts()[0]["fit"]]
    row.promise(row.rejected == 1, "the late result was not rejected")
    row.promise(first.outcome == Outcome.LOST and second.outcome == Outcome.SUCCEEDED, "the second attempt counts")


def stop_workers(ground: Ground, row: Row, stops: int = 6, grace: float = 10.0, trials: int = 8) -> None:
    """SIGTERM to a worker, busy or idle: it ends within the grace period and releases its fit at no cost."""
    search = spec(trials, ms=6000)
    with ground.site("postgresql", workers=2) as site:
        expected = clean(site, search)
        stopped = [_stop(site, site.workers[0], row, grace)]
        job = site.post(search)
        while len(stopped) < stops:
            name = site.workers[len(stopped) % 2]
            until(partial(_holds, site, name), 120, f"{name} holds a fit")
            stopped.append(_stop(site, name, row, grace))
        check(site, row, job, expected)
        released = [one for one in tries(site, job) if one.outcome == Outcome.RELEASED]
        row.count = stops
        row.reclaims = [
            (one.next_started - one.ended).total_seconds() for one in released if one.next_started and one.ended
        ]
        row.notes.append(f"the worker's processes had ended after {max(stopped):.1f} s at most")
        lost = [one for one in tries(site, job) if one.outcome == Outcome.LOST]
    row.promise(not lost, f"{len(lost)} attempts were lost")
    row.promise(len(released) >= stops - 2, f"{len(released)} fits were released")


def _stop(site: Site, name: str, row: Row, grace: float) -> float:
    part = site.parts[name]
    ended, ready = part.process, site.said(f"{name} ready.", [name])
    start = time.monotonic()
    os.kill(ended.pid, signal.SIGTERM)
    seconds = until(lambda: ended.poll() is not None, 60, f"{name} ends") or time.monotonic() - start
    row.promise_within(grace, seconds, "a stopped worker ended")
    row.promise(ended.returncode == 0, f"a stopped worker ended with {ended.returncode}")
    until(lambda: site.said(f"{name} ready.", [name]) > ready, 180, f"{name} is back")
    return seconds
