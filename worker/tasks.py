"""The module of `celery -A worker.tasks worker`: one task, which trains fits until none is left."""

from typing import Any

from celery import Task, signals

from app.tuning.broker import TASK
from app.tuning.broker import celery as app
from worker.celery_process import run_task
from worker.runner import TrainFit


@signals.worker_process_init.connect  # type: ignore[untyped-decorator]
def load_training(**_: Any) -> TrainFit:
    """Import TensorFlow at the start of each training process, and never in the worker's main process."""
    import worker.cnn.trainer  # noqa: F401
    from worker.fit import train_fit

    return train_fit


@app.task(name=TASK, bind=True)  # type: ignore[untyped-decorator]
def run_next_fit(self: Task) -> None:
    """Train fits until no job has any left."""
    run_task(self, load_training())
