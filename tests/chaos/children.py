"""Training processes killed, out of memory or hanging, under a worker that survives."""

from datetime import datetime
from typing import Any

from app.tuning.jobs.tables import Outcome
from tests.chaos.ground import Ground
from tests.chaos.proof import Try, check, clean, tries
from tests.chaos.report import Row
from tests.chaos.site import Site, spec, until

NEXT_FIT_SECONDS = 10.0
HANG_SECONDS = 90.0


def lose_children(ground: Ground, row: Row, times: int = 4) -> None:
    """The training process is killed, or exceeds its memory limit; the worker goes on with the next fit."""
    with ground.site("sqlite", workers=1) as site:
        worker = site.parts[site.workers[0]].process.pid
        for act, outcome, kind in (
            ("die", Outcome.LOST, "TrainingProcessDied"),
            ("grow", Outcome.OUT_OF_MEMORY, "MemoryError"),
        ):
            for _ in range(times):
                first, seconds = _act(site, row, act)
                row.reclaims.append(seconds)
                recorded = first.error["type"] if first.error else None
                row.promise(
                    first.outcome == outcome and recorded == kind, f"{act}: recorded as {first.outcome}, {recorded}"
                )
        row.count = 2 * times
        row.promise(site.parts[site.workers[0]].process.pid == worker, "the worker died with its child")
    row.promise_within(NEXT_FIT_SECONDS, max(row.reclaims), "the next fit started")


def _act(site: Site, row: Row, act: str) -> tuple[Try, float]:
    """The damaged attempt, and the seconds until the worker began its next fit."""
    search = spec(1, ms=300, folds=2, act=act)
    expected = clean(site, search)
    seen = len(site.acts())
    job = site.post(search)
    check(site, row, job, expected)
    done = site.acts()[seen]
    attempts = tries(site, job)
    first = next(one for one in attempts if one.fit_id == done["fit"] and one.attempt == done["attempt"])
    return first, min(_after(one.started, done) for one in attempts if _after(one.started, done) > 0)


def _after(moment: datetime, act: dict[str, Any]) -> float:
    return moment.timestamp() - float(act["at"])


def hang(ground: Ground, row: Row) -> None:
    """Training that hangs, in Python and in C with the interpreter's lock held."""
    with ground.site("postgresql", workers=2) as site:
        workers = [part.process.pid for part in site.parts.values()]
        searches = [spec(2, ms=300, folds=2, act=act) for act in ("hang", "hang-in-c")]
        expected = clean(site, searches[0])
        jobs = [site.post(search) for search in searches]
        for job in jobs:
            check(site, row, job, expected)
        until(lambda: _ends_of_hung(site, jobs) == len(jobs), HANG_SECONDS, "the hung processes are found and killed")
        for one in (one for job in jobs for one in tries(site, job)):
            for act in site.acts():
                if (one.fit_id, one.attempt) == (act["fit"], act["attempt"]) and one.next_started:
                    row.reclaims.append(_after(one.next_started, act))
        row.count = len(jobs)
        row.promise([part.process.pid for part in site.parts.values()] == workers, "a worker died with its child")
    row.promise(len(row.reclaims) == len(jobs), "a hung fit was not retried")
    row.promise_within(HANG_SECONDS, max(row.reclaims), "retried")


def _ends_of_hung(site: Site, jobs: list[str]) -> int:
    return sum(one.outcome == Outcome.HUNG for job in jobs for one in tries(site, job))


def be_wrong(ground: Ground, row: Row) -> None:
    """Training that raises is not a lost attempt: it is recorded and not retried."""
    with ground.site("sqlite", workers=1) as site:
        job = site.post(spec(2, ms=100, folds=2, act="raise"))
        ended = site.wait(job)
        attempts = tries(site, job)
        row.count = 1
        failed = [one for one in attempts if one.outcome == Outcome.FAILED]
        row.promise(ended["state"] == "succeeded" and ended["trials"]["failed"] == 1, f"the job has {ended['state']}")
        row.promise(len(failed) == 1 and all(one.attempt == 1 for one in attempts), "it was retried")
        row.promise("wrong" in str(failed[0].error), f"the reason is missing: {failed[0].error}")
