"""Trouble with Redis while jobs are posted and trained."""

import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from celery import Celery
from redis import RedisError

from app.tuning.broker import QUEUE
from tests.chaos.ground import Ground
from tests.chaos.proof import check, clean, tries
from tests.chaos.report import Row
from tests.chaos.site import Site, spec, until

ACCEPT_SECONDS = 3.0
SLOWER = 1.2  # times a clean job's time
OUTAGE_SECONDS = 20.0
Search = dict[str, Any]


def trouble(ground: Ground, row: Row) -> None:
    """One job for each kind of trouble; its results and its duration are compared with an undisturbed job's."""
    search = spec(24, ms=1600, steady="yes")
    with ground.site("sqlite", workers=3) as site:
        expected = clean(site, search)
        usual = _seconds(site.wait(_timed_post(site, row, search)))
        row.notes.append(f"without trouble: {usual:.0f} s")
        for damage in (flush, kill_before, kill_after, freeze, fill, cut):
            job, outage = damage(site, row, search)
            check(site, row, job, expected)
            took = _seconds(site.job(job))
            duration = f"{damage.__name__}: {took:.0f} s with {outage:.0f} s of outage"
            row.notes.append(duration)
            row.promise(took <= SLOWER * usual + outage, duration)
            row.count += 1


def post_through_trouble(ground: Ground, row: Row) -> None:
    """A POST gets its response at once while the broker is full, frozen or dead."""
    with ground.site("sqlite") as site:
        client = site.broker.client()
        client.config_set("maxmemory", "1")
        for damage in (client.close, site.broker.freeze, site.broker.kill):
            damage()
            for _ in range(3):
                _timed_post(site, row, spec(1, folds=2))
            row.count += 1


def _timed_post(site: Site, row: Row, search: Search) -> str:
    start = time.monotonic()
    job = site.post(search)
    seconds = time.monotonic() - start
    row.promise_within(ACCEPT_SECONDS, seconds, "accepted")
    return job


def _seconds(job: dict[str, Any]) -> float:
    created, ended = (datetime.fromisoformat(job[name]) for name in ("created_at", "ended_at"))
    return (ended - created).total_seconds()


def flush(site: Site, row: Row, search: Search) -> tuple[str, float]:
    """Redis is flushed every three seconds."""
    job = _timed_post(site, row, search)
    while not site.ended(job):
        site.broker.client().flushall()
        time.sleep(3)
    return job, 0


def kill_before(site: Site, row: Row, search: Search) -> tuple[str, float]:
    """Redis dies before the POST and comes back, empty, much later."""
    return _outage(site, row, search, site.broker.kill, site.broker.start)


def kill_after(site: Site, row: Row, search: Search) -> tuple[str, float]:
    """Redis dies right after the POST and comes back after a time in which workers alone could end the job."""
    job = _timed_post(site, row, search)
    site.broker.kill()
    start = time.monotonic()
    time.sleep(2 * OUTAGE_SECONDS)
    site.broker.start()
    return job, time.monotonic() - start


def freeze(site: Site, row: Row, search: Search) -> tuple[str, float]:
    """Redis accepts connections and does not respond."""
    return _outage(site, row, search, site.broker.freeze, site.broker.thaw)


def fill(site: Site, row: Row, search: Search) -> tuple[str, float]:
    """Redis is full and evicts nothing."""
    client = site.broker.client()
    client.config_set("maxmemory-policy", "noeviction")
    limits = (lambda: client.config_set("maxmemory", "1"), lambda: client.config_set("maxmemory", "0"))
    return _outage(site, row, search, *limits)


def _outage(
    site: Site, row: Row, search: Search, begin: Callable[[], object], end: Callable[[], object]
) -> tuple[str, float]:
    begin()
    start = time.monotonic()
    job = _timed_post(site, row, search)
    time.sleep(OUTAGE_SECONDS)
    end()
    return job, time.monotonic() - start


def cut(site: Site, row: Row, search: Search) -> tuple[str, float]:
    """All connections to Redis are cut again and again, and once it pauses for five seconds."""
    job = _timed_post(site, row, search)
    client = site.broker.client()
    client.client_pause(5000)
    while not site.ended(job):
        try:
            client.client_kill_filter(_type="normal", skipme=True)
            client.client_kill_filter(_type="pubsub", skipme=True)
        except RedisError:
            client = site.broker.client()
        time.sleep(3)
    return job, 5


def deafen(ground: Ground, row: Row, most: float = 60.0) -> None:
    """Workers silently stop consuming, as after some interruptions of the broker."""
    search = spec(4, ms=500)
    with ground.site("sqlite", workers=2) as site:
        expected = clean(site, search)
        celery = Celery(broker=site.broker.url)
        replies = celery.control.cancel_consumer(QUEUE, destination=site.workers, reply=True, timeout=10)
        row.promise(len(replies) == 2, f"{len(replies)} workers stopped consuming")
        time.sleep(3)  # the call in which each waits for the next message, a second long, still gets one
        posted = time.time()
        job = site.post(search)
        check(site, row, job, expected)
        row.count = len(replies)
        row.reclaims = [min(one.started.timestamp() for one in tries(site, job)) - posted]
        # The first that begins again takes the wakes, and the other misses nothing.
        until(lambda: site.said("restarting it") >= 1, 10)
    row.promise_within(most, max(row.reclaims), "received again")
