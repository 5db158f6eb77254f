"""What `celery -A worker.tasks worker` serves: one task, which trains fits for as long as there are any."""

from typing import Any

from celery import Task, signals

from app.tuning.broker import TASK
from app.tuning.broker import celery as app
from worker.celery_process import run_task
from worker.runner import TrainFit


@signals.worker_process_init.connect  # type: ignore[untyped-decorator]
def training(**_: Any) -> TrainFit:
    """What trains; TensorFlow comes in with it, as soon as a training process is there, and in no other process."""
    from worker.fit import train_fit

    return train_fit


@app.task(name=TASK, bind=True)  # type: ignore[untyped-decorator]
def run_next_fit(self: Task) -> None:
    """Train the next fit, and the next, until no job has any."""
    run_task(self, training())
