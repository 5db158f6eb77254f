"""The watchdog restarts a worker that misses work at enough checks in a row."""

from collections.abc import Callable

from kombu.exceptions import OperationalError
from sqlalchemy import Engine, create_engine

from tests.support.ledger import Ledger, grid
from worker.consumer_watchdog import MISSED_CHECKS, MISSED_CHECKS_WHEN_BUSY, ConsumerWatchdog


class Watched:
    """A watchdog of a worker with one process, beside a queue with wakes; counts the restarts."""

    def __init__(self, engine: Engine, wakes: Callable[[], int] = lambda: 1, processes: int = 1) -> None:
        self.restarts = 0
        self.watchdog = ConsumerWatchdog(lambda: engine, "w1", wakes, self.restart)
        self.watchdog.processes = processes

    def restart(self) -> None:
        self.restarts += 1

    def restarts_after(self, checks: int, busy: bool = False) -> int:
        for _ in range(checks):
            self.watchdog.check(busy)
        return self.restarts


def test_missed_work_restarts_the_worker_after_enough_checks(sqlite_engine: Engine) -> None:
    Ledger(sqlite_engine).post(grid(2))
    watched = Watched(sqlite_engine)
    assert watched.restarts_after(MISSED_CHECKS - 1) == 0
    assert watched.restarts_after(1) == 1


def test_a_worker_whose_processes_seem_busy_gets_more_checks(sqlite_engine: Engine) -> None:
    Ledger(sqlite_engine).post(grid(2))
    watched = Watched(sqlite_engine)
    assert watched.restarts_after(MISSED_CHECKS_WHEN_BUSY - 1, busy=True) == 0
    assert watched.restarts_after(1, busy=True) == 1


def test_work_that_was_taken_ends_the_count(sqlite_engine: Engine) -> None:
    ledger = Ledger(sqlite_engine)
    job_id = ledger.post(grid(2))
    watched = Watched(sqlite_engine)
    watched.restarts_after(MISSED_CHECKS - 1)
    held = ledger.claim(job_id)
    assert watched.restarts_after(MISSED_CHECKS) == 0, "its one process trains a fit"
    ledger.finish(held)
    assert watched.restarts_after(MISSED_CHECKS - 1) == 0
    assert watched.restarts_after(1) == 1


def test_nothing_is_missed_without_wakes_work_or_processes(sqlite_engine: Engine) -> None:
    enough = MISSED_CHECKS_WHEN_BUSY
    assert Watched(sqlite_engine).restarts_after(enough) == 0, "no job"
    Ledger(sqlite_engine).post(grid(2))
    assert Watched(sqlite_engine, wakes=lambda: 0).restarts_after(enough) == 0
    assert Watched(sqlite_engine, processes=0).restarts_after(enough) == 0


def test_an_outage_is_no_missed_work(sqlite_engine: Engine) -> None:
    def without_broker() -> int:
        raise OperationalError("connection refused")

    Ledger(sqlite_engine).post(grid(2))
    assert Watched(sqlite_engine, wakes=without_broker).restarts_after(MISSED_CHECKS) == 0
    gone = create_engine("sqlite:////nowhere/tunewell.db")
    assert Watched(gone).restarts_after(MISSED_CHECKS) == 0
