"""Workers with empty training: `celery -A benchmarks.worker worker`. Everything else is real."""

import time
from dataclasses import replace

from celery import Task

from app.tuning.broker import TASK
from app.tuning.broker import celery as app
from app.tuning.jobs.attempts import Result
from app.tuning.jobs.claims import Claim
from benchmarks import fake
from worker.celery_process import run_task
from worker.lease import LeaseHeartbeat

_returned = time.perf_counter()


@app.task(name=TASK, bind=True)  # type: ignore[untyped-decorator]
def run_next_fit(self: Task) -> None:
    """As `worker.tasks.run_next_fit`, but for the training."""
    run_task(self, train)


def train(claim: Claim, heartbeat: LeaseHeartbeat) -> Result:
    """Return at once; the result's seconds are the time since this process last trained."""
    global _returned
    idle = time.perf_counter() - _returned
    result = replace(fake.train(claim, heartbeat), fit_seconds=idle)
    _returned = time.perf_counter()
    return result
