"""Unwanted messages: duplicate, stray, malicious, or of a deleted job."""

import time
from pathlib import Path

from celery import Celery

from app.tuning.broker import QUEUE, TASK
from tests.chaos.ground import Ground
from tests.chaos.proof import check, clean, tries
from tests.chaos.report import Row
from tests.chaos.site import Site, spec, until

DOUBLES = 200


class Bomb:
    """Unpickling it writes a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return _explode, (str(self.file),)


def _explode(file: str) -> None:
    Path(file).touch()


def confuse(ground: Ground, row: Row) -> None:
    """All kinds of messages at once during a job, which must end as if undisturbed."""
    search = spec(8, ms=300)
    with ground.site("sqlite", workers=2) as site:
        workers = [site.parts[name].process.pid for name in site.workers]
        expected = clean(site, search)
        bomb = site.folder / "exploded"
        gone = _deleted_job(site)
        job = site.post(search)
        row.count = _send(site, bomb)
        check(site, row, job, expected)
        until(lambda: not site.broker.client().llen(QUEUE), 60, "the messages are taken")
        time.sleep(2)
        later = site.post(search)
        check(site, row, later, expected)
        attempts = [one.attempt for one in tries(site, job) + tries(site, later)]
        row.promise(attempts == [1] * len(attempts), "a fit was attempted twice")
        row.promise(not bomb.exists(), "a pickle was opened")
        row.promise(site.http.get(f"/v1/jobs/{gone}").status_code == 404, "a deleted job came back")
        row.promise([site.parts[name].process.pid for name in site.workers] == workers, "a message killed a worker")


def _deleted_job(site: Site) -> str:
    job = site.post(spec(50, ms=5000))
    site.http.post(f"/v1/jobs/{job}/cancel").raise_for_status()
    site.wait(job)
    site.http.delete(f"/v1/jobs/{job}").raise_for_status()
    return job


def _send(site: Site, bomb: Path) -> int:
    celery = Celery(broker=site.broker.url)
    celery.conf.task_default_queue = QUEUE
    for _ in range(DOUBLES):
        celery.send_task(TASK, task_id="the-same")
    celery.send_task("no.such.task")
    celery.send_task(TASK, args=[1, {"two": 3}])
    celery.send_task(TASK, args=[Bomb(bomb)], serializer="pickle")
    client = site.broker.client()
    strays = [b"not json", b"{}", b"[]", b"\x80\x04\x95"]
    for stray in strays:
        client.lpush(QUEUE, stray)
    return DOUBLES + 3 + len(strays)
