"""Trouble with the database: killed, cut off, full, or a COMMIT's response lost."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import make_url, text

from tests.chaos.clients import Client
from tests.chaos.ground import Ground
from tests.chaos.pages import UNLIMITED
from tests.chaos.proof import check, clean
from tests.chaos.proxy import proxy
from tests.chaos.report import Row
from tests.chaos.site import Site, site, spec, until
from tests.support import servers

GOOD_SECONDS = 5.0  # until the first good response
OUTAGE_SECONDS = 6.0
COMMITS = 8  # of so many, one response is lost


def kill(ground: Ground, row: Row, kills: int = 3) -> None:
    """PostgreSQL crashes and comes back, several times during a job."""
    search = spec(16, ms=1500)
    with ground.site("postgresql", workers=3) as site:
        expected = clean(site, search)
        job = site.post(search)
        back = []
        with Client(site) as client:
            for _ in range(kills):
                time.sleep(4)
                ground.postgres.kill()
                time.sleep(OUTAGE_SECONDS)
                ground.postgres.start()
                back.append(until(lambda: site.job(job)["state"] != "unknown", 60, "a good response"))
        client.check(row)
        check(site, row, job, expected)
    row.count = kills
    row.notes.append(f"first good response after {max(back):.1f} s at most")
    row.promise_within(GOOD_SECONDS, max(back), "first good response")


def cut(ground: Ground, row: Row, pause: float = 1.0) -> None:
    """All connections to the database are cut repeatedly while a job runs."""
    search = spec(10, ms=1500)
    with ground.site("postgresql", workers=3) as site:
        expected = clean(site, search)
        job = site.post(search)
        with Client(site) as client:
            while not site.ended(job):
                row.count += _terminate(ground.postgres, site)
                time.sleep(pause)
        client.check(row)
        check(site, row, job, expected)


def _terminate(server: servers.Postgres, site: Site) -> int:
    name = make_url(site.database_url).database
    server.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
    return 1


def lose_commits(ground: Ground, row: Row, searches: Sequence[dict[str, Any]] = (spec(12, ms=800),)) -> None:
    """The connection breaks between a COMMIT and its response, for API and workers alike."""
    database = ground.new_database("postgresql")
    with (
        servers.broker() as broker,
        proxy(ground.postgres.port) as way,
        site(ground.new_folder(), database, broker) as made,
    ):
        through = make_url(database).set(port=way.port).render_as_string(hide_password=False)
        made.start_api(through)
        made.start_workers(3, through)
        expected = [clean(made, search) for search in searches]
        way.lose_each = COMMITS
        jobs = [made.post(search, f"key-{number}") for number, search in enumerate(searches)]
        with Client(made) as client:
            made.wait(jobs[0])
        for job in jobs:
            made.wait(job)
        way.lose_each = 0
        client.check(row)
        for number, (search, job, table) in enumerate(zip(searches, jobs, expected, strict=True)):
            check(made, row, job, table)
            row.promise(made.post(search, f"key-{number}") == job, "the key did not bring the same job back")
        row.count = way.lost


def fill(ground: Ground, row: Row, seconds: float = 12.0) -> None:
    """SQLite may not grow: requests are rejected with 503, and work goes on when there is space."""
    search = spec(12, ms=1500)
    with ground.site("sqlite", workers=2) as site:
        expected = clean(site, search)
        job = site.post(search)
        until(lambda: site.job(job)["state"] == "running", 30)
        pages = Path(site.folder) / "pages"
        pages.write_text(str(_pragma(site, "page_count")))
        responses = []
        start = time.monotonic()
        while time.monotonic() - start < seconds:
            responses.append(site.http.post("/v1/jobs", json=spec(200)))
            responses.append(site.http.get(f"/v1/jobs/{job}"))
            time.sleep(0.5)
        pages.write_text(str(UNLIMITED))
        back = until(lambda: site.http.post("/v1/jobs", json=spec(1, folds=2)).status_code == 202, 60)
        check(site, row, job, expected)
        row.promise(_pragma(site, "integrity_check") == "ok", "the file is corrupt")
    refused = [one for one in responses if one.status_code == 503]
    others = {one.status_code for one in responses} - {200, 202, 503}
    row.count = len(refused)
    row.promise(bool(refused), "the disk was not full")
    row.promise(not others, f"responses other than 200, 202 and 503: {others}")
    row.promise(all("no space" in one.text for one in refused), "the reason is missing")
    row.promise_within(GOOD_SECONDS, back, "accepted again")


def _pragma(site: Site, name: str) -> object:
    with site.engine.connect() as connection:
        return connection.execute(text(f"PRAGMA {name}")).scalar()
