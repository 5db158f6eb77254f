"""The module of `celery -A worker.tasks worker`: one task, which trains fits until none is left."""

import gc
from typing import Any

from celery import Task, signals

from app.tuning.broker import TASK
from app.tuning.broker import celery as app
from worker.celery_process import run_task
from worker.runner import TrainFit


def load_training() -> TrainFit:
    """Import TensorFlow, in a training process and never in the worker's main process."""
    import worker.cnn.trainer
    import worker.network.trainer  # noqa: F401
    from worker.fit import train_fit

    return train_fit


@signals.worker_process_init.connect  # type: ignore[untyped-decorator]
def _prepare_process(**_: Any) -> None:
    load_training()
    gc.freeze()  # full collections need not look at TensorFlow's objects, which takes a fifth of a second


@app.task(name=TASK, bind=True)  # type: ignore[untyped-decorator]
def run_next_fit(self: Task) -> None:
    """Train fits until no job has any left."""
    run_task(self, load_training())
